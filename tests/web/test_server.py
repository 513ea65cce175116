"""The process of a server: start and stop."""

import re
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest

from amp_workers.web.server.connections import peer_address
from tests.processes import Process, Processes, eventually, free_port, get

DATABASE = "postgresql://u:hunter2@127.0.0.1:1/d"

Start = Callable[[int], Process]


@pytest.fixture(params=["admin", "exporter"])
def start(request: pytest.FixtureRequest, processes: Processes) -> Start:
    def start_server(port: int) -> Process:
        arguments = (request.param, "--web.listen-address", f"127.0.0.1:{port}")
        return processes.ampd(*arguments, database=DATABASE)

    return start_server


def healthy(port: int) -> bool:
    return get(f"http://127.0.0.1:{port}/-/healthy", timeout=2) == "OK\n"


def test_it_serves_and_stops(start: Start) -> None:
    port = free_port()
    server = start(port)
    eventually(lambda: healthy(port))
    assert not server.descendants(), "one process serves"
    assert server.stop() == 0
    lines = server.output.splitlines()
    assert "listens on http://127.0.0.1" in lines[0]
    assert "stopped" in lines[-1]
    assert "Traceback" not in server.output


def test_a_second_sigterm_does_not_hold_up_the_first(start: Start) -> None:
    ports = [free_port() for _ in range(4)]
    servers = [start(port) for port in ports]
    for port in ports:
        eventually(partial(healthy, port))
    for server in servers:
        for _ in range(20):
            server.signal(signal.SIGTERM)
    assert [server.wait() for server in servers] == [0] * len(servers)


def test_a_sigterm_at_the_very_end_changes_nothing(start: Start) -> None:
    port = free_port()
    server = start(port)
    eventually(lambda: healthy(port))
    ends = time.monotonic() + 30
    while server.popen.poll() is None and time.monotonic() < ends:
        server.signal(signal.SIGTERM)
        time.sleep(0.001)
    assert server.wait() == 0


def test_a_port_in_use_is_one_line(start: Start) -> None:
    port = free_port()
    start(port)
    eventually(lambda: healthy(port))
    second = start(port)
    assert second.wait() == 1
    assert second.output == (
        f"Error: cannot listen on 127.0.0.1:{port}: Address already in use. Choose another with --web.listen-address.\n"
    )


@pytest.mark.parametrize("command", ["admin", "exporter"])
def test_it_listens_on_every_address(processes: Processes, command: str) -> None:
    ports = [free_port() for _ in range(3)]
    addresses = [f"--web.listen-address=127.0.0.1:{port}" for port in ports]
    server = processes.ampd(command, *addresses[:2], database=DATABASE)
    for port in ports[:2]:
        eventually(partial(healthy, port))
    in_use = processes.ampd(command, addresses[2], addresses[1], database=DATABASE)
    assert in_use.wait() == 1
    assert in_use.output.startswith(f"Error: cannot listen on 127.0.0.1:{ports[1]}: Address already in use.")
    malformed = processes.ampd(command, addresses[2], "--web.listen-address=localhost", database=DATABASE)
    assert malformed.wait() == 2
    assert "'localhost' is not HOST:PORT" in malformed.output
    assert server.stop() == 0


def test_no_process_is_left_after_kill(start: Start) -> None:
    port = free_port()
    server = start(port)
    eventually(lambda: healthy(port))
    assert not server.descendants()
    server.signal(signal.SIGKILL)
    server.wait()
    start(port)
    eventually(lambda: healthy(port))


def test_it_stops_while_it_starts(start: Start) -> None:
    """SIGTERM arrives as soon as our code runs: the imports of libraries are the longest part of a start."""
    for _ in range(3):
        server = start(free_port())
        status = Path(f"/proc/{server.pid}/status")
        eventually(lambda status=status: handles_sigterm(status.read_text()))  # type: ignore[misc]
        assert server.stop() == 0
        assert "Traceback" not in server.output


def handles_sigterm(status: str) -> bool:
    caught = int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_an_unavailable_database_is_logged_once(start: Start) -> None:
    port = free_port()
    server = start(port)
    eventually(lambda: healthy(port))
    for _ in range(5):
        with pytest.raises(OSError, match="503"):
            get(f"http://127.0.0.1:{port}/-/ready")
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/-/ready")
        # No authentication is configured, so every client gets the reason.
        assert b"the metadata DB cannot be reached" in connection.getresponse().read()
    assert server.output.count("the metadata DB cannot be reached") == 1
    assert "hunter2" not in server.output


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("192.0.2.1", 50_000), "192.0.2.1"),
        (("2001:db8::1", 50_000, 0, 0), "2001:db8::1"),
        (("::ffff:192.0.2.1", 50_000, 0, 0), "192.0.2.1"),
    ],
)
def test_a_client_has_one_address_however_the_server_listens(name: tuple[str, int], address: str) -> None:
    assert peer_address(name) == address
