"""What serving costs, side by side: `.venv/bin/python -m bench.web --ampd before=/path/to/another/venv/bin/ampd`.

Each named `ampd` serves the same PostgreSQL, one after the other, with the same workers. To compare with an earlier
commit: `git worktree add --detach /tmp/before COMMIT`, and install that tree into a virtual environment of its own.
"""

import argparse
import http.client
import os
import platform
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil
import psycopg
import trustme

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from bench.scrape import fill
from bench.servers import connect, postgres
from tests.processes import eventually, free_port

Connection = psycopg.Connection[tuple[object, ...]]

IDLE = 2_000
"""Connections, all made within the 10 s after which the server closes those that send nothing."""

HELD = 10_000
"""TLS connections at once."""

PATIENT = {"X-Prometheus-Scrape-Timeout-Seconds": "100"}


class Server:
    """A running `ampd admin` or `ampd exporter`, alone or with the processes that it started."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], ready_seconds: float, ca: Path | None) -> None:
        self.port, self.process, self.ready_seconds = port, process, ready_seconds
        self._trusting = None if ca is None else ssl.create_default_context(cafile=ca)

    @property
    def family(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def connect(self) -> http.client.HTTPConnection:
        if self._trusting is None:
            return http.client.HTTPConnection("localhost", self.port, timeout=120)
        return http.client.HTTPSConnection("localhost", self.port, timeout=120, context=self._trusting)


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path, headers=PATIENT)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    return body


@contextmanager
def served(ampd: str, command: str, url: str, tls: Path | None = None) -> Iterator[Server]:
    """Run a server for as long as it is needed. tls: a directory with `ca.pem` and `web.yml`."""
    port = free_port()
    options = [f"--web.listen-address=127.0.0.1:{port}"] + ([f"--web.config.file={tls}/web.yml"] if tls else [])
    environment = os.environ | {"AMP_METADATA_DB_URL": url, "AMP_LOG": "error"}
    started = time.perf_counter()
    process = subprocess.Popen([ampd, command, *options], env=environment)
    server = Server(port, process, 0.0, tls / "ca.pem" if tls else None)
    try:
        eventually(lambda: get(server.connect(), "/-/ready"), 60)
        server.ready_seconds = time.perf_counter() - started
        yield server
    finally:
        process.terminate()
        process.wait()


def certificates(directory: Path) -> Path:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    leaf.cert_chain_pems[0].write_to_path(directory / "server.pem")
    leaf.private_key_pem.write_to_path(directory / "server.key")
    (directory / "web.yml").write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    return directory


def ready_milliseconds(ampd: str, url: str) -> float:
    found = []
    for _ in range(5):
        with served(ampd, "exporter", url) as server:
            found.append(server.ready_seconds)
    return 1000 * statistics.median(found)


def resident_megabytes(ampd: str, url: str) -> float:
    with served(ampd, "exporter", url) as server:
        for _ in range(5):
            get(server.connect(), "/metrics")
        return resident(server)


def resident(server: Server) -> float:
    """The memory of all processes of a server, in MB."""
    return sum(each.memory_info().rss for each in server.family) / 1e6


def health_milliseconds(ampd: str, url: str, seconds: float) -> float:
    """The 99th percentile of `/-/healthy` while scrapes follow one another."""
    with served(ampd, "exporter", url) as server:
        ends, taken = time.monotonic() + seconds, list[float]()

        def scrape() -> None:
            while time.monotonic() < ends:
                get(server.connect(), "/metrics")

        scraping = [threading.Thread(target=scrape) for _ in range(2)]
        for each in scraping:
            each.start()
        while time.monotonic() < ends:
            started = time.perf_counter()
            get(server.connect(), "/-/healthy")
            taken.append(1000 * (time.perf_counter() - started))
            time.sleep(0.02)
        for each in scraping:
            each.join()
    return statistics.quantiles(taken, n=100)[98]


def transfer_milliseconds(ampd: str, url: str, tls: Path) -> tuple[float, float]:
    """A large response over TLS, from its first byte to its last, and its size in MB."""
    with served(ampd, "exporter", url, tls) as server:
        found = []
        for _ in range(5):
            connection = server.connect()
            connection.request("GET", "/metrics", headers=PATIENT)
            response = connection.getresponse()
            started, size = time.perf_counter(), 0
            while piece := response.read(2**20):
                size += len(piece)
            found.append(time.perf_counter() - started)
        return 1000 * statistics.median(found), size / 1e6


def single(ampd: str, url: str, node_ids: list[str], seconds: float) -> tuple[float, float]:
    """`GET /workers/{id}` a second by 8 clients, of a server that has one core, and the 99th percentile in ms."""
    with served(ampd, "admin", url) as server:
        get(server.connect(), f"/workers/{node_ids[0]}")
        for thread in (thread for each in server.family for thread in each.threads()):
            os.sched_setaffinity(thread.id, sorted(os.sched_getaffinity(0))[:1])
        ends, taken = time.perf_counter() + seconds, list[float]()

        def ask(number: int) -> None:
            connection = server.connect()
            for node_id in cycle(node_ids[number::8]):
                started = time.perf_counter()
                if started > ends:
                    return
                get(connection, f"/workers/{node_id}")
                taken.append(1000 * (time.perf_counter() - started))

        asking = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for each in asking:
            each.start()
        for each in asking:
            each.join()
    return len(taken) / seconds, statistics.quantiles(taken, n=100)[98]


def idle_kilobytes(ampd: str, url: str, tls: Path | None) -> float:
    """What each of IDLE connections adds to a server's memory. With TLS, each has shaken hands."""
    with served(ampd, "exporter", url, tls) as server, ExitStack() as stack:
        before = resident(server)

        def connect(_: int) -> None:
            connection = server.connect()
            connection.connect()
            stack.callback(connection.close)

        with ThreadPoolExecutor(4) as clients:
            list(clients.map(connect, range(IDLE)))
        get(server.connect(), "/-/healthy")
        return 1000 * (resident(server) - before) / IDLE


def hold(port: int, number: int, ready: Event, end: Event) -> None:
    """Shake hands on so many connections, without a check of the certificate, and keep them until the end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connections = [context.wrap_socket(socket.create_connection(("localhost", port))) for _ in range(number)]
    ready.set()
    end.wait()
    for connection in connections:
        connection.close()


def held(ampd: str, url: str, tls: Path) -> tuple[int, float, float]:
    """How many of HELD connections with TLS a server has at once, its memory in MB, and how many ms a new client takes.

    The server closes a connection that has sent no request for 10 s: on a slow machine, the first before the last.
    """
    context = get_context("spawn")
    with served(ampd, "exporter", url, tls) as server:
        files = sum(each.num_fds() for each in server.family)
        end = context.Event()
        ready = [context.Event() for _ in range(2)]
        clients = [context.Process(target=hold, args=(server.port, HELD // 2, each, end)) for each in ready]
        for client in clients:
            client.start()
        for each in ready:
            each.wait(120)
        found = sum(each.num_fds() for each in server.family) - files
        started = time.perf_counter()
        get(server.connect(), "/-/healthy")
        milliseconds = 1000 * (time.perf_counter() - started)
        megabytes = resident(server)
        end.set()
        for client in clients:
            client.join()
        return found, megabytes, milliseconds


def rows(
    ampd: str, server: EmbeddedPostgres, connection: psycopg.Connection[tuple[object, ...]], seconds: float
) -> dict[str, str]:
    """Measure one `ampd`."""
    found = {"`/-/ready` after the start, ms": f"{ready_milliseconds(ampd, server.url):.0f}"}
    connection.execute("TRUNCATE workers")
    fill(connection, 1_000)
    found["exporter, 1,000 workers, resident, MB"] = f"{resident_megabytes(ampd, server.url):.0f}"
    node_ids = [str(row[0]) for row in connection.execute("SELECT node_id FROM workers")]
    rate, p99 = single(ampd, server.url, node_ids, seconds)
    found["`GET /workers/{id}`, one core, requests/s"] = f"{rate:.0f}"
    found["`GET /workers/{id}`, one core, p99, ms"] = f"{p99:.1f}"
    connection.execute("TRUNCATE workers")
    fill(connection, 100_000)
    health = health_milliseconds(ampd, server.url, seconds)
    found["`/-/healthy` during scrapes of 100,000 workers, p99, ms"] = f"{health:.0f}"
    with tempfile.TemporaryDirectory() as directory:
        tls = certificates(Path(directory))
        milliseconds, size = transfer_milliseconds(ampd, server.url, tls)
        idle = [idle_kilobytes(ampd, server.url, each) for each in (None, tls)]
        number, megabytes, new_client = held(ampd, server.url, tls)
    found["a scrape of 100,000 workers over TLS, first byte to last, ms"] = f"{milliseconds:.0f} ({size:.0f} MB)"
    found["an idle connection, plain / TLS, KB"] = f"{idle[0]:.0f} / {idle[1]:.0f}"
    found[f"{HELD:,} TLS connections: held at once"] = f"{number:,}"
    found[f"{HELD:,} TLS connections: resident, MB"] = f"{megabytes:.0f}"
    found[f"{HELD:,} TLS connections: a new client, ms"] = f"{new_client:.0f}"
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ampd", action="append", default=[], metavar="NAME=PATH", help="another `ampd` to compare with"
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, HELD)), hard))
    peers = dict(each.split("=", 1) for each in arguments.ampd) | {"now": str(Path(sys.executable).with_name("ampd"))}
    with postgres() as (server, _), connect(server) as connection:
        found = {name: rows(ampd, server, connection, arguments.seconds) for name, ampd in peers.items()}
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print(f"| what | {' | '.join(found)} |\n| --- |{' ---: |' * len(found)}")
    for what in found["now"]:
        print(f"| {what} | {' | '.join(each[what] for each in found.values())} |")


if __name__ == "__main__":
    main()
