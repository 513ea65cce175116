"""Raw connections to a server, and a check of the server's resources before and after."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from tests.processes import eventually
from tests.web.servers import Served

MIB = 2**20


def healthy(served: Served) -> bool:
    return served.ask("/-/healthy", "--insecure").status == 200


def connect(served: Served, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=30)
    connection.sendall(sent)
    return connection


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the other side closes or resets the connection."""
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(2**16):
            received += piece
    return received


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


@contextmanager
def nothing_piles_up(served: Served, mib: int = 32) -> Iterator[None]:
    """Compare the resources of the serving process before and after the block. Its threads end after some idle time."""
    process = psutil.Process(served.serving())
    assert healthy(served)
    memory, files = process.memory_info().rss, process.num_fds()
    yield
    assert healthy(served)
    assert served.serving() == process.pid, "it had to be started again"
    eventually(lambda: process.num_fds() <= files + 8, 30)
    assert process.num_threads() < 200
    assert process.memory_info().rss - memory < mib * MIB
    assert "Traceback" not in served.process.output
    assert "panicked" not in served.process.output


@contextmanager
def dripping(connections: list[socket.socket]) -> Iterator[None]:
    """Send one byte twice a second on each connection."""
    end = threading.Event()

    def drip() -> None:
        while not end.wait(0.5):
            for connection in connections:
                with suppress(OSError):
                    connection.send(b"a")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
