"""`ampd admin` and `ampd exporter` on signals that request a stop."""

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from tests.processes import BIN, PATIENCE_SECONDS, Process, Processes, clean_environment, eventually, free_port, get

pytestmark = pytest.mark.slow

NO_DATABASE = "postgresql://u@127.0.0.1:1/d"

SERVERS = pytest.mark.parametrize("command", ["admin", "exporter"])


def start(processes: Processes, *command: str) -> tuple[Process, str]:
    """Start a server, and return it with the URL of its health once it listens."""
    port = free_port()
    server = processes.start(
        *command, f"--web.listen-address=127.0.0.1:{port}", env={"AMP_METADATA_DB_URL": NO_DATABASE}
    )
    server.says("listens on http")
    return server, f"http://127.0.0.1:{port}/-/healthy"


@SERVERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_server_stops_gracefully(processes: Processes, command: str, number: signal.Signals) -> None:
    server, _ = start(processes, "ampd", command)
    server.signal(number)
    assert server.wait() == 0
    server.says(f"ampd {command} stopped")


@SERVERS
def test_a_server_keeps_an_inherited_ignore(processes: Processes, command: str) -> None:
    server, health = start(processes, "sh", "-c", f"trap '' HUP INT TERM; exec ampd {command} $0")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        server.signal(number)
    assert get(health) == "OK\n"
    assert server.popen.poll() is None


@SERVERS
@pytest.mark.parametrize(("prefix", "survives"), [((), False), (("nohup",), True)], ids=["alone", "nohup"])
def test_sighup_stops_a_server_without_nohup(
    tmp_path: Path, command: str, prefix: tuple[str, ...], survives: bool
) -> None:
    """The kernel sends SIGHUP to the processes of a terminal that closes, for example when an SSH session ends."""
    port, log = free_port(), tmp_path / "log"
    health = f"http://127.0.0.1:{port}/-/healthy"
    terminal, stdin = pty.openpty()
    arguments = ["setsid", "--ctty", *prefix, str(BIN / "ampd"), command, f"--web.listen-address=127.0.0.1:{port}"]
    environment = clean_environment() | {"AMP_METADATA_DB_URL": NO_DATABASE}
    with log.open("w") as stderr:
        server = subprocess.Popen(arguments, stdin=stdin, stdout=stderr, stderr=stderr, env=environment)
    os.close(stdin)
    try:
        eventually(lambda: get(health))
        os.close(terminal)
        if survives:
            assert get(health) == "OK\n"
            assert "stopped" not in log.read_text()
            server.terminate()
        assert server.wait(PATIENCE_SECONDS) == 0
        assert f"ampd {command} stopped" in log.read_text()
    finally:
        server.kill()
        server.wait()
