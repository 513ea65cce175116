"""Client processes of `bench.web`: they share no interpreter lock with each other, nor with what is measured."""

import http.client
import signal
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.synchronize import Event, Semaphore

PATIENT = {"X-Prometheus-Scrape-Timeout-Seconds": "100"}

_CLIENTS = 3
_REQUEST_SECONDS = 7.0
"""The interval of requests on a connection while others are opened. Servers close idle ones after 10 s."""

_REFRESH_SECONDS = 1.0
"""The age of the last response up to which a connection needs no further request, before all are left idle."""

_BATCH = 200

_OPEN_SECONDS = 30.0

_REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"


def scrape(port: int, seconds: float) -> None:
    """Scrape again and again."""
    ends, piece = time.monotonic() + seconds, bytearray(2**20)
    while time.monotonic() < ends:
        connection = http.client.HTTPConnection("localhost", port, timeout=120)
        connection.request("GET", "/metrics", headers=PATIENT)
        response = connection.getresponse()
        while response.readinto(piece):
            pass
        connection.close()


@contextmanager
def scraping(port: int, seconds: float) -> Iterator[None]:
    """Let two clients scrape for so many seconds."""
    context = get_context("fork")
    clients = [context.Process(target=scrape, args=(port, seconds)) for _ in range(2)]
    for client in clients:
        client.start()
    yield
    for client in clients:
        client.join()


@contextmanager
def idle_connections(port: int, number: int, *, tls: bool) -> Iterator[None]:
    """Hold so many connections, or as many as the server lets clients open and keep within a minute. On entering, each
    has got a response within the last few seconds, and sends nothing more."""
    context = get_context("fork")
    opened, refreshed, refresh = context.Semaphore(0), context.Semaphore(0), context.Event()
    shares = [number // _CLIENTS + (client < number % _CLIENTS) for client in range(_CLIENTS)]
    clients = [context.Process(target=_hold, args=(port, share, tls, opened, refresh, refreshed)) for share in shares]
    for client in clients:
        client.start()
    try:
        for _ in clients:
            opened.acquire(timeout=_OPEN_SECONDS)
        refresh.set()
        for _ in clients:
            refreshed.acquire(timeout=_OPEN_SECONDS)
        yield
    finally:
        for client in clients:
            client.kill()
            client.join()


def _hold(port: int, number: int, tls: bool, opened: Semaphore, refresh: Event, refreshed: Semaphore) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connections: deque[tuple[float, socket.socket]] = deque()
    """Each with the time of its last response, the oldest first."""

    def connect() -> None:
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        connections.append((time.monotonic(), context.wrap_socket(connection) if tls else connection))

    def request(older_than: float) -> None:
        """Send a request on these connections, and replace those that the server has closed."""
        before = time.monotonic() - older_than
        while connections[0][0] < before:
            batch = [connections.popleft()[1] for _ in range(min(_BATCH, len(connections)))]
            for connection in batch:
                with suppress(OSError):
                    connection.sendall(_REQUEST)
            for connection in batch:
                try:
                    is_open = bool(connection.recv(4096))
                except OSError:
                    is_open = False
                if is_open:
                    connections.append((time.monotonic(), connection))
                else:
                    connection.close()
                    connect()

    for _ in range(number):
        connect()
        request(_REQUEST_SECONDS)
    opened.release()
    while not refresh.wait(0.01):
        request(_REQUEST_SECONDS)
    request(_REFRESH_SECONDS)
    refreshed.release()
    signal.pause()
