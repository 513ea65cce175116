"""Clients that hold connections: incomplete bodies, slow readers, and many or endless TLS handshakes."""

import asyncio
import re
import resource
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from flask import Flask, Response

from amp_workers.web import Policy
from amp_workers.web.server.application import Application
from amp_workers.web.server.connections import Connections
from tests.processes import Processes, eventually
from tests.processes import get as fetch
from tests.web.clients import connect, dripping, get, healthy, nothing_piles_up, read_to_end, statuses
from tests.web.conftest import Authority
from tests.web.servers import TLS, Served, write

pytestmark = pytest.mark.slow

GREETING = bytes.fromhex("1603010200010001fc0303")
"""The beginning of a TLS handshake of 512 bytes."""

HALF_BODIES = [
    get("/-/healthy", "Content-Length: 100") + b"a" * 10,
    get("/-/healthy", "Content-Length: 100000") + b"a" * 20_000,
    get("/-/healthy", "Transfer-Encoding: chunked") + b"64\r\naaaa",
]

FAILURES = re.compile(r'msg="more TLS handshakes failed" number=(\d+)|msg="TLS handshake failed" ')


@pytest.fixture
def secure(processes: Processes, tmp_path: Path, authority: Authority) -> Served:
    """A server with TLS."""
    authority.server()
    return Served(processes, "exporter", "--web.config.file", write(tmp_path / "web.yml", TLS))


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
def test_an_incomplete_body_and_an_incomplete_handshake_are_disconnected(
    processes: Processes, secure: Served, drips: bool
) -> None:
    plain = Served(processes, "admin")
    with ExitStack() as stack, nothing_piles_up(plain), nothing_piles_up(secure):
        connections = [stack.enter_context(connect(plain, half)) for half in HALF_BODIES for _ in range(30)]
        connections += [stack.enter_context(connect(secure, GREETING[:size])) for size in (1, 5, 11) for _ in range(30)]
        with dripping(connections if drips else []):
            for connection in connections:
                read_to_end(connection)  # raises a timeout if the server does not close it
        assert healthy(plain)
        assert healthy(secure)


def test_many_failing_handshakes_are_a_few_log_lines(secure: Served) -> None:
    storm, clients = 1_000, 8
    untrusting = ssl.create_default_context()

    def fail(number: int) -> None:
        with connect(secure) as connection, suppress(OSError):
            if number % 2:
                untrusting.wrap_socket(connection, server_hostname="localhost")
            else:
                connection.sendall(get("/-/healthy"))
                read_to_end(connection)

    with nothing_piles_up(secure):
        began = time.monotonic()
        with ThreadPoolExecutor(clients) as many:
            failing = many.map(fail, range(storm))
            assert healthy(secure)
            list(failing)
        seconds = time.monotonic() - began

        def counted() -> list[int]:
            return [int(count or 1) for count in FAILURES.findall(secure.process.output)]

        eventually(lambda: sum(counted()) >= storm)
        assert len(counted()) <= 11 * (seconds + 3)
    assert "tornado" not in secure.process.output
    assert secure.process.stop() == 0


def test_two_thousand_idle_connections_with_tls(secure: Served, authority: Authority) -> None:
    wanted = 2_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + 256:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + 256, hard))
    trusting = ssl.create_default_context(cafile=authority.file)

    def shake_hands(_: int) -> ssl.SSLSocket:
        return trusting.wrap_socket(connect(secure), server_hostname="localhost")

    with ExitStack() as stack, nothing_piles_up(secure, 256):
        with ThreadPoolExecutor(4) as many:
            for connection in many.map(shake_hands, range(wanted)):
                stack.enter_context(connection)
        assert healthy(secure)


def test_no_line_of_the_log_comes_from_malformed_requests(processes: Processes) -> None:
    served = Served(processes, "exporter")
    before = served.process.output
    for sent in (b"\0\0\0\r\n\r\n", b"GET\r\n\r\n", get("/", "Content-Length: -1"), get("/", "A" * 70_000), GREETING):
        with connect(served, sent) as connection:
            connection.shutdown(socket.SHUT_WR)
            assert set(statuses(read_to_end(connection))) <= {400, 431}
    assert served.process.output == before


def test_a_request_has_one_response_and_its_body_is_skipped(processes: Processes) -> None:
    served, last = Served(processes, "exporter"), get("/-/healthy", "Connection: close")
    for header, body in (
        ("Content-Length: 3", b"abc"),
        ("Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"),
        ("Content-Length: 3\r\nExpect: 100-continue", b"abc"),
    ):
        with connect(served, get("/-/healthy", header) + body + last) as connection:
            assert statuses(read_to_end(connection)) == [200, 200]
    for header in ("Content-Length: 3, 3", "Content-Length: +3", "Transfer-Encoding: chunked\r\nContent-Length: 3"):
        with connect(served, get("/-/healthy", header) + b"abc" + last) as connection:
            assert statuses(read_to_end(connection)) == [400]


def test_a_slow_reader_is_disconnected_and_delays_no_other_client() -> None:
    app, body = Flask("test"), b"a" * 2**26

    @app.get("/large")
    def large() -> Response:
        return Response(body)

    @app.get("/small")
    def small() -> Response:
        return Response("small")

    async def serve(listener: socket.socket) -> tuple[int, str]:
        connections = Connections(Application(app, Policy(), threads=1), Policy(), [listener], 16, response_seconds=3)
        connections.accept()
        client = asyncio.to_thread(drip, listener.getsockname())
        found, answer = await asyncio.gather(client, asyncio.to_thread(ask, listener.getsockname()))
        await connections.drain(1)
        return found, answer

    def drip(address: tuple[str, int]) -> int:
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(get("/large"))
            received = 0
            with suppress(ConnectionError):
                while piece := connection.recv(2**12):
                    received += len(piece)
                    time.sleep(0.001)
            return received

    def ask(address: tuple[str, int]) -> str:
        time.sleep(0.5)  # by then, the only thread has run `large`
        return fetch(f"http://{address[0]}:{address[1]}/small")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        received, answer = asyncio.run(serve(listener))
    assert answer == "small"
    assert received < len(body)
