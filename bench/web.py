"""What serving costs, side by side: `.venv/bin/python -m bench.web --ampd before=/path/to/another/venv/bin/ampd`.

Each named `ampd` serves the same PostgreSQL, one after the other, with the same workers. To compare with an earlier
commit: `git worktree add --detach /tmp/before COMMIT`, and install that tree into a virtual environment of its own.
"""

import argparse
import http.client
import os
import platform
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import psutil
import psycopg
import trustme

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from bench.scrape import fill
from bench.servers import connect, postgres
from bench.web_clients import PATIENT, idle_connections, scraping
from tests.processes import eventually, free_port

Connection = psycopg.Connection[tuple[object, ...]]

IDLE = 10_000
"""Connections at once."""


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
        taken, ends = list[float](), time.monotonic() + seconds
        with scraping(server.port, seconds):
            while time.monotonic() < ends:
                taken.append(milliseconds(server, "/-/healthy"))
                time.sleep(0.02)
    return statistics.quantiles(taken, n=100)[98]


def milliseconds(server: Server, path: str) -> float:
    """The time of a request on a new connection."""
    started = time.perf_counter()
    get(server.connect(), path)
    return 1000 * (time.perf_counter() - started)


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


def idle(ampd: str, url: str, tls: Path | None) -> list[str]:
    """What a server does while it holds IDLE connections: how many it has, its memory in MB, what each adds to it in
    KB, and how many ms `/-/healthy` and a list of 1,000 workers take a new client, in the median and at most."""
    with served(ampd, "admin", url, tls) as server:
        for _ in range(5):
            get(server.connect(), "/workers")
        before = resident(server)
        with idle_connections(server.port, IDLE, tls=tls is not None):
            held, memory = established(server), resident(server)
            taken = [[milliseconds(server, path) for _ in range(20)] for path in ("/-/healthy", "/workers")]
            held = min(held, established(server))
    times = [f"{statistics.median(each):.0f} / {max(each):.0f}" for each in taken]
    return [f"{held:,}", f"{memory:.0f}", f"{1000 * (memory - before) / IDLE:.0f}", *times]


def established(server: Server) -> int:
    """Count the connections of clients that a server has open."""
    found = (each for process in server.family for each in process.net_connections("tcp"))
    return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == server.port for each in found)


def measured(
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
        taken, size = transfer_milliseconds(ampd, server.url, tls)
        connection.execute("TRUNCATE workers")
        fill(connection, 1_000)
        connections = {kind: idle(ampd, server.url, each) for kind, each in (("plain", None), ("TLS", tls))}
    found["a scrape of 100,000 workers over TLS, first byte to last, ms"] = f"{taken:.0f} ({size:.0f} MB)"
    for kind, values in connections.items():
        names = (
            "held",
            "resident, MB",
            "each, KB",
            "`/-/healthy`, median / slowest, ms",
            "`GET /workers` of 1,000, ms",
        )
        found |= {
            f"{IDLE:,} idle connections, {kind}: {name}": value for name, value in zip(names, values, strict=True)
        }
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
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, IDLE)), hard))
    peers = dict(each.split("=", 1) for each in arguments.ampd) | {"now": str(Path(sys.executable).with_name("ampd"))}
    with postgres() as (server, _), connect(server) as connection:
        found = {name: measured(ampd, server, connection, arguments.seconds) for name, ampd in peers.items()}
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print(f"| what | {' | '.join(found)} |\n| --- |{' ---: |' * len(found)}")
    for what in found["now"]:
        print(f"| {what} | {' | '.join(each[what] for each in found.values())} |")


if __name__ == "__main__":
    main()
