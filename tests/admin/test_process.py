"""The Admin API as a process: responses over a socket match the description, and hostile requests leak no memory."""

import http.client
import random
import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import psutil
import pytest

from tests.admin.contract import assert_described
from tests.conftest import Insert
from tests.processes import Process, Processes, eventually, get

pytestmark = pytest.mark.slow

GARBAGE = [
    b"GET /workers/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /workers/%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /workers/% HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /workers/..%2f..%2fetc HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //workers HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /workers?state=%ff&&=;& HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /workers?limit=" + b"9" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: [\r\n\r\n",
    b'GET /docs HTTP/1.1\r\nHost: \xff\r\nIf-None-Match: \xff"\r\nAccept-Encoding: \xe9;q=\xe9\r\n\r\n',
    b"DELETE /workers/w HTTP/1.1\r\nHost: x\r\nREMOTE_USER: ann\r\nRemote-User: ann\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /workers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"BREW /workers HTTP/1.1\r\nHost: x\r\n\r\n",
    b"* * *\r\n\r\n",
    b"\x16\x03\x01\x00\x00",
    b"GET / HTTP/9.9\r\n\r\n",
]


@pytest.fixture
def server(processes: Processes, database: str, unused_port: int) -> Iterator[tuple[Process, int]]:
    started = processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{unused_port}", database=database)
    eventually(lambda: get(f"http://127.0.0.1:{unused_port}/-/ready"))
    yield started, unused_port
    assert "level=error" not in started.output


def test_responses_over_a_socket_match_the_description(server: tuple[Process, int], insert_worker: Insert) -> None:
    for number in range(5):
        insert_worker(f"w{number}", 300)
    _, port = server
    requests = [
        ("GET", "/workers", 200),
        ("HEAD", "/workers", 200),
        ("GET", "/workers?limit=2&state=lost", 200),
        ("GET", "/workers?limit=0", 400),
        ("GET", "/workers/w1", 200),
        ("GET", "/workers/unknown", 404),
        ("GET", "/workers/", 400),
        ("GET", "/workers/w%2F1", 400),
        ("DELETE", "/workers/w1", 403),
        ("DELETE", "/workers", 405),
        ("GET", "/-/healthy", 200),
        ("GET", "/-/ready", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
        ("GET", "/nothing", 404),
    ]
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for request in requests:
            ask(connection, *request)


def ask(connection: http.client.HTTPConnection, method: str, path: str, status: int) -> None:
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    assert response.status == status
    headers = {name.title().replace("Etag", "ETag"): value for name, value in response.getheaders()}
    assert_described(method, path.partition("?")[0], status, headers, body)
    if "ETag" in headers:
        connection.request(method, path, headers={"If-None-Match": headers["ETag"]})
        response = connection.getresponse()
        assert (response.status, response.read()) == (304, b"")


def send(port: int, request: bytes) -> bytes:
    """Return the first line of the response to any bytes."""
    answer = b""
    # A server may close the connection while it reads an invalid request.
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, suppress(OSError):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            answer += piece
    return answer.partition(b"\r\n")[0]


def test_garbage_is_answered_and_leaves_nothing_behind(server: tuple[Process, int], insert_worker: Insert) -> None:
    insert_worker("w", 300)
    process, port = server
    serving = psutil.Process(process.pid)
    chosen = random.Random(1)  # noqa: S311 - no secret

    def storm(requests: int) -> None:
        for number in range(requests):
            noise = bytes(chosen.randrange(256) for _ in range(40)).replace(b"\n", b"")
            path = noise.replace(b" ", b"").replace(b"\r", b"")
            noisy = b"GET /workers/" + path + b" HTTP/1.1\r\nHost: x\r\nX: " + noise + b"\r\n\r\n"
            for request in (GARBAGE[number % len(GARBAGE)], noisy):
                status = send(port, request)[9:10]
                assert status in {b"2", b"4", b""}, request

    def series() -> int:
        return len(get(f"http://127.0.0.1:{port}/metrics").splitlines())

    def held() -> tuple[int, int]:
        return serving.num_fds(), serving.num_threads()

    storm(400)
    series()  # this request is counted as well
    memory, before, reported = serving.memory_info().rss, held(), series()
    storm(1200)
    # The threads of the busiest moment (16 at most) stay for a while. 2,400 requests followed.
    assert all(now < then + 50 for now, then in zip(held(), before, strict=True))
    assert series() == reported
    assert serving.memory_info().rss < memory + 12_000_000
    assert get(f"http://127.0.0.1:{port}/-/healthy") == "OK\n"
    assert '"w"' in get(f"http://127.0.0.1:{port}/workers/w")
