"""Hostile clients: whatever they send, `/-/healthy` responds, no request fails with 500, and no resources pile up."""

import base64
import re
import resource
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import bcrypt
import pytest

from tests.processes import Processes, eventually
from tests.processes import get as fetch
from tests.web.clients import MIB, connect, dripping, get, healthy, nothing_piles_up, read_to_end, statuses
from tests.web.conftest import Authority
from tests.web.servers import Served, write

pytestmark = pytest.mark.slow

TOKEN = "the-token-of-an-operator"


@pytest.fixture(params=["admin", "exporter"])
def served(request: pytest.FixtureRequest, processes: Processes) -> Served:
    return Served(processes, request.param)


def seconds_of_health(served: Served, times: int) -> list[float]:
    """Return the response times of `/-/healthy` in seconds. One may be long because the machine is busy."""
    seconds = []
    for _ in repeat(None, times):
        began = time.monotonic()
        assert fetch(f"http://127.0.0.1:{served.port}/-/healthy", timeout=30) == "OK\n"
        seconds.append(time.monotonic() - began)
    return seconds


def read_answer(answers: BinaryIO) -> list[int]:
    """Read one response, and return its status."""
    found = statuses(answers.readline())
    length = 0
    while (line := answers.readline()) != b"\r\n":
        length = int(line.split()[1]) if line.startswith(b"content-length") else length
    answers.read(length)
    return found


def test_silent_and_slow_clients_are_disconnected(processes: Processes, tmp_path: Path, authority: Authority) -> None:
    authority.server()
    tls = write(tmp_path / "web.yml", "tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    plain, secure = Served(processes, "exporter"), Served(processes, "admin", "--web.config.file", tls)
    trusting = ssl.create_default_context(cafile=authority.file)
    with ExitStack() as stack, nothing_piles_up(plain), nothing_piles_up(secure):
        slow = [stack.enter_context(connect(plain, b"GET / HTTP/1.1\r\nHost: x\r\n")) for _ in range(100)]
        silent = [stack.enter_context(connect(each)) for each in (plain, secure) for _ in range(100)]
        idle = [stack.enter_context(connect(plain, get("/-/healthy"))) for _ in range(100)]
        idle += [
            stack.enter_context(trusting.wrap_socket(connect(secure), server_hostname="localhost")) for _ in range(20)
        ]
        with dripping(slow):
            for connection in (*silent, *idle, *slow):
                if connection is slow[0]:
                    assert healthy(plain)
                read_to_end(connection)  # raises a timeout if the server does not close it
        assert healthy(secure)


def test_more_tls_handshakes_than_file_descriptors_do_not_stop_the_server(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    authority.server()
    tls = write(tmp_path / "web.yml", "tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    served = Served(processes, "exporter", "--web.config.file", tls)
    for pid in (served.process.pid, served.serving()):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (200, 200))
    with ExitStack() as stack:
        for _ in range(250):
            stack.enter_context(connect(served))
        served.process.says("a connection could not be accepted: Too many open files")
        eventually(lambda: healthy(served))


@pytest.mark.parametrize("command", ["admin", "exporter"])
@pytest.mark.parametrize("path", ["/-/ready", "/workers", "/metrics"])
def test_a_database_that_never_answers_leaves_threads_for_health(processes: Processes, command: str, path: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as hole:
        database = f"postgresql://u:hunter2@127.0.0.1:{hole.getsockname()[1]}/d?sslmode=disable"
        served = Served(processes, command, database=database)

        def slowest() -> float:
            time.sleep(1.5)  # the result of `/-/ready` is cached for one second
            with ExitStack() as stack:
                for _ in repeat(None, 200):
                    stack.enter_context(connect(served, get(path)))
                return max(seconds_of_health(served, 5))

        # Without its own threads, each request would wait for the database's time limits of three seconds and more.
        assert any(slowest() < 2 for _ in repeat(None, 10))


def test_a_burst_is_served(processes: Processes, database: str) -> None:
    served = Served(processes, "admin", database=database)
    with ThreadPoolExecutor(60) as many:
        found = set(many.map(lambda _: fetch(served.url("/workers")), range(600)))
    assert found == {'{"workers":[]}\n'}


def test_responses_without_a_body_release_their_place(processes: Processes, database: str) -> None:
    served = Served(processes, "exporter", database=database)
    for _ in repeat(None, 70):
        assert served.ask("/metrics", "--head").status == 200
    assert served.ask("/metrics").status == 200


def test_a_header_without_end_is_refused(served: Served) -> None:
    for start in (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"GET /", b"GET / HTTP/1.1\r\n"):
        piece = b"a" * 2**16 if start[-2:] != b"\r\n" else b"X: y\r\n" * 10_000
        with nothing_piles_up(served), connect(served, start) as connection:
            sent = 0
            with suppress(ConnectionError):
                while sent < 1024 * MIB:
                    connection.sendall(piece)
                    sent += len(piece)
            assert sent < 32 * MIB  # the maximum that the kernels of both sides buffer
            assert set(statuses(read_to_end(connection))) <= {400, 414, 431}


def test_an_unexpected_request_body_is_not_stored(served: Served) -> None:
    for framing in ("Content-Length: 1073741824", "Transfer-Encoding: chunked"):
        piece = b"10000\r\n" + b"a" * 2**16 + b"\r\n"
        with nothing_piles_up(served), connect(served, get("/-/healthy", framing)) as connection:
            sent = 0
            with suppress(ConnectionError):
                while sent < 1024 * MIB:
                    connection.sendall(piece)
                    sent += len(piece)
            assert sent < 32 * MIB
        with connect(served, get("/-/healthy", framing) + piece) as connection:
            assert statuses(read_to_end(connection)) == [200]


def test_ten_thousand_silent_connections(served: Served) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_000 if hard == resource.RLIM_INFINITY else min(10_000, hard - 512)
    if soft != resource.RLIM_INFINITY and soft < wanted + 256:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + 256, hard))
    with nothing_piles_up(served, 256):
        connections = [connect(served) for _ in range(wanted)]
        try:
            assert healthy(served)
        finally:
            for connection in connections:
                connection.close()


def test_pipelined_requests_are_all_answered_in_order(served: Served) -> None:
    paths = ["/-/healthy", "/nothing"] * 500
    with nothing_piles_up(served):
        last = get("/-/healthy", "Connection: close")
        with connect(served) as connection, ThreadPoolExecutor(1) as sender:
            sender.submit(connection.sendall, b"".join(map(get, paths)) + last)
            answers = read_to_end(connection)
    assert statuses(answers) == [200, 404] * 500 + [200]


REQUEST_LINES = [
    "GET /workers/%0d%0aX-Injected:%20yes HTTP/1.1",
    "GET /workers/a%0d%0a%0d%0aHTTP/1.1%20200%20OK HTTP/1.1",
    "GET /%0d%0aX-Injected:%20yes?name[]=%0d%0aX-Injected:%20yes HTTP/1.1",
    "GET //example.org/%0aX-Injected: HTTP/1.1",
    "GET /metrics?name[]=%00%ff%0d%0aX-Injected:%20yes HTTP/1.1",
    "X\0 /metrics HTTP/1.1",
    "GET /metrics HTTP/9.9",
    "\xff\xfe",
]


def test_no_header_of_an_answer_comes_from_a_request(served: Served) -> None:
    odd = "Accept: */*\tX-Injected: yes\r\nX-Prometheus-Scrape-Timeout-Seconds: nan\r\nAccept-Encoding: \xe9;q=x"
    for request_line in REQUEST_LINES:
        sent = f"{request_line}\r\nHost: x\r\n{odd}\r\nConnection: close\r\n\r\n".encode("latin-1")
        with nothing_piles_up(served), connect(served, sent) as connection:
            answer = read_to_end(connection)
        assert all(status in {200, 400, 404, 405, 503, 505} for status in statuses(answer)), request_line
        assert len(statuses(answer.partition(b"\r\n\r\n")[0])) <= 1, request_line
        assert answer or not request_line.startswith("GET "), "a response is missing, which this test cannot judge"
        assert b"x-injected" not in answer.partition(b"\r\n\r\n")[0].lower(), request_line


def test_no_line_of_the_metrics_comes_from_a_label(
    processes: Processes, database: str, insert_worker: Callable[..., None]
) -> None:
    insert_worker(
        "w", info='{"version": "v1\\"} 1\\nevil_metric 1\\r\\n\\r\\nHTTP/1.1 200 OK", "commit_sha": "\\u2028"}'
    )
    answer = Served(processes, "exporter", database=database).ask("/metrics")
    assert answer.status == 200
    assert 'amp_worker_info{node_id="w"' in answer.body
    assert not re.search(r"^(evil_metric|HTTP)", answer.body, re.MULTILINE)


def test_many_wrong_tokens(processes: Processes) -> None:
    served = Served(processes, "admin", AMP_AUTH_TOKEN=TOKEN)
    at_once = 50

    def attack(number: int) -> set[int]:
        found: set[int] = set()
        with connect(served) as connection, connection.makefile("rb") as answers:
            for window in range(100):
                wrong = [f"Authorization: Bearer {number}-{window}-{n}-{TOKEN}" for n in range(at_once)]
                connection.sendall(b"".join(get("/workers", header) for header in wrong))
                for _ in range(at_once):
                    found.update(read_answer(answers))
        return found

    with nothing_piles_up(served):
        with ThreadPoolExecutor(4) as attackers:
            assert set().union(*attackers.map(attack, range(4))) == {401}
        # The token is valid, and there is no database.
        assert served.ask("/workers", "-H", f"Authorization: Bearer {TOKEN}").status == 503


def test_many_wrong_passwords(processes: Processes, tmp_path: Path) -> None:
    # The hash is so cheap that sixteen verifications take less than the maximum wait.
    hashed = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(8)).decode()
    users = write(tmp_path / "web.yml", f"basic_auth_users:\n  alice: {hashed}\n")
    served = Served(processes, "exporter", "--web.config.file", users)
    stop = threading.Event()

    def attack(number: int) -> None:
        wrong = base64.b64encode(f"alice:wrong {number}".encode()).decode()
        with connect(served) as connection, connection.makefile("rb") as answers:
            while not stop.is_set():
                connection.sendall(get("/metrics", f"Authorization: Basic {wrong}"))
                assert read_answer(answers) == [401]

    with ThreadPoolExecutor(16) as attackers:
        attacks = [attackers.submit(attack, number) for number in range(16)]
        try:
            time.sleep(1)
            assert served.ask("/metrics", "-u", "alice:hunter2").status == 200
            eventually(lambda: median(seconds_of_health(served, 11)) < 2, 60)
        finally:
            stop.set()
        for each in attacks:
            each.result()


def test_unread_responses_leave_room_for_others(
    processes: Processes, database: str, sql: Callable[..., list[Any]]
) -> None:
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) SELECT 'worker-' || n, now(), "
        "jsonb_build_object('version', repeat('v', 200)), now(), now() FROM generate_series(1, 10000) AS n"
    )
    served = Served(processes, "exporter", database=database)
    with ExitStack() as stack:
        clients: list[socket.socket] = []
        for _ in repeat(None, 100):
            unread = stack.enter_context(socket.socket())
            clients.append(unread)
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
            unread.connect(("127.0.0.1", served.port))
            unread.sendall(get("/metrics"))
        # Each connection has part of a response, or a refusal. Unread responses occupy the places.
        eventually(lambda: len(select.select(clients, [], [], 0)[0]) == len(clients), 60)
        refused = served.ask("/metrics")
        assert (refused.status, "retry-after: 1" in refused.headers) == (503, True)
        assert healthy(served)
        assert served.ask("/nothing").status == 404
        # The server disconnects a client that reads nothing for 30 s.
        eventually(lambda: served.ask("/metrics").status == 200, 120)
    eventually(lambda: served.ask("/metrics").status == 200, 60)
