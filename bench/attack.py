"""What hostile clients cost those who may ask: `.venv/bin/python -m bench.attack`.

An `ampd admin` with TLS off, one token and one user, and no metadata DB, so that all that it does is to refuse. While
each attack is under way, `/-/healthy` is asked ten times a second over a new connection each, as an orchestrator does.
"""

import argparse
import base64
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import bcrypt
import psutil

from tests.processes import eventually, free_port

TOKEN = "the-token-of-an-operator"  # noqa: S105 - of a server that lives as long as the benchmark
PIPELINED = 50
"""Requests that a client sends before it reads."""


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def connect(port: int, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(sent)
    return connection


@contextmanager
def served() -> Iterator[tuple[int, psutil.Process]]:
    """Run `ampd admin`; yields its port and the process that serves."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "web.yml")
        config.write_text(f"basic_auth_users:\n  ann: {bcrypt.hashpw(b'a password', bcrypt.gensalt(10)).decode()}\n")
        command = [str(Path(sys.executable).with_name("ampd")), "admin", f"--web.listen-address=127.0.0.1:{port}"]
        environment = os.environ | {
            "AMP_METADATA_DB_URL": "postgresql://127.0.0.1:1/none",
            "AMP_AUTH_TOKEN": TOKEN,
            "AMP_LOG": "error",
        }
        process = subprocess.Popen([*command, f"--web.config.file={config}"], env=environment)
        try:
            eventually(lambda: health_milliseconds(port), 60)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def health_milliseconds(port: int) -> float:
    started = time.perf_counter()
    with connect(port, get("/-/healthy", "Connection: close")) as connection:
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return 1000 * (time.perf_counter() - started)


def refused(port: int, requests: int, clients: int, header: Callable[[int, int], str]) -> Counter[int]:
    """Send so many requests, each with a header of its own, and count the statuses of the answers."""
    found: list[Counter[int]] = []

    def attack(client: int) -> None:
        own: Counter[int] = Counter()
        with connect(port) as connection, connection.makefile("rb") as answers:
            for first in range(0, requests // clients, PIPELINED):
                many = range(first, min(first + PIPELINED, requests // clients))
                connection.sendall(b"".join(get("/workers", header(client, number)) for number in many))
                for _ in many:
                    own[int(answers.readline().split()[1])] += 1
                    length = 0
                    while (line := answers.readline()) != b"\r\n":
                        length = int(line.split()[1]) if line.lower().startswith(b"content-length") else length
                    answers.read(length)
        found.append(own)

    threads = [threading.Thread(target=attack, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found, Counter())


def held(port: int, connections: int, seconds: float, sent: bytes = b"", drip: bytes = b"") -> Counter[int]:
    """Hold so many connections that send something at first, and then `drip` twice a second."""
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(port, sent)) for _ in range(connections)]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for connection in opened if drip else ():
                with suppress(OSError):
                    connection.send(drip)
            time.sleep(0.5)
    return Counter()


def endless(port: int, seconds: float) -> Counter[int]:
    """Send a header of a gibibyte, and another one whenever the server has cut one off."""
    piece, ends = b"a" * 2**20, time.monotonic() + seconds
    while time.monotonic() < ends:
        with connect(port, b"GET / HTTP/1.1\r\nHost: x\r\nX: ") as connection, suppress(ConnectionError):
            for _ in range(1024):
                connection.sendall(piece)
    return Counter()


def attacked(name: str, port: int, serving: psutil.Process, attack: Callable[[], Counter[int]]) -> None:
    """Print what an attack did, and how `/-/healthy` fared under it."""
    ended = threading.Event()
    taken: list[float] = []

    def ask() -> None:
        while not ended.wait(0.1):
            taken.append(health_milliseconds(port))

    time.sleep(1)
    memory, cpu, started = serving.memory_info().rss, sum(serving.cpu_times()[:2]), time.perf_counter()
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        statuses = attack()
    finally:
        ended.set()
        asking.join()
    seconds = time.perf_counter() - started
    cores = (sum(serving.cpu_times()[:2]) - cpu) / seconds
    grown = (serving.memory_info().rss - memory) / 2**20
    counts = ", ".join(f"{count:,} of {status}" for status, count in sorted(statuses.items()))
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    row = f"{seconds:.0f} | {cores:.2f} | {cuts[49]:.1f} | {cuts[98]:.1f} | {max(taken):.1f} | {grown:+.1f}"
    print(f"| {name} | {counts} | {row} |", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--passwords", type=int, default=1_000)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * arguments.connections + 1024), hard))
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print("| attack | answers | s | cores | health, ms: median | p99 | slowest | memory, MiB |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    with served() as (port, serving):

        def token(client: int, number: int) -> str:
            return f"Authorization: Bearer {client}-{number}-{TOKEN}"

        def password(client: int, number: int) -> str:
            return f"Authorization: Basic {base64.b64encode(f'ann:{client}-{number}'.encode()).decode()}"

        connections, seconds = arguments.connections, arguments.seconds
        begun = b"GET /workers HTTP/1.1\r\nHost: x\r\n"
        attacks: dict[str, Callable[[], Counter[int]]] = {
            "none": lambda: held(port, 0, seconds),
            f"{arguments.tokens:,} wrong tokens": lambda: refused(port, arguments.tokens, 8, token),
            f"{arguments.passwords:,} wrong passwords": lambda: refused(port, arguments.passwords, 8, password),
            f"{connections:,} silent connections": lambda: held(port, connections, seconds),
            "1,000 headers, a byte every 0.5 s": lambda: held(port, 1000, seconds, begun, b"a"),
            "headers of 1 GiB": lambda: endless(port, seconds),
        }
        for name, attack in attacks.items():
            attacked(name, port, serving, attack)


if __name__ == "__main__":
    main()
