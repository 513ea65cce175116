"""What a scrape costs, side by side with its peers: `.venv/bin/python -m bench.scrape`.

Fills a PostgreSQL of its own with workers that all send a heartbeat between two scrapes, and scrapes in turn: ours,
Debian's prometheus-postgres-exporter with a query file that gives the same series of each worker, a plain
prometheus-client collector with the same series, and as the floor `psql -c "COPY (…) TO STDOUT"` of the columns of all
worker families. Each figure is the median over the rounds; the ratio is against the Go exporter in the same round.
"""

import argparse
import http.client
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import psutil
import psycopg

from bench.servers import postgres
from tests.metadata_db.amp import add_jobs
from tests.processes import ROOT, eventually, free_port

GO_QUERIES = """
amp_worker:
  query: |
    SELECT node_id, extract(epoch FROM now() - heartbeat_at)::float8 AS heartbeat_age_seconds,
           extract(epoch FROM heartbeat_at)::float8 AS heartbeat_timestamp_seconds,
           extract(epoch FROM registered_at)::float8 AS registered_timestamp_seconds,
           extract(epoch FROM created_at)::float8 AS created_timestamp_seconds
    FROM workers
  metrics:
    - node_id: {usage: LABEL, description: node}
    - heartbeat_age_seconds: {usage: GAUGE, description: age}
    - heartbeat_timestamp_seconds: {usage: GAUGE, description: heartbeat}
    - registered_timestamp_seconds: {usage: GAUGE, description: registered}
    - created_timestamp_seconds: {usage: GAUGE, description: created}
amp:
  query: |
    SELECT node_id, info->>'version' AS version, info->>'commit_sha' AS commit_sha,
           info->>'commit_timestamp' AS commit_timestamp, info->>'build_date' AS build_date, 1 AS worker_info
    FROM workers
  metrics:
    - node_id: {usage: LABEL, description: node}
    - version: {usage: LABEL, description: version}
    - commit_sha: {usage: LABEL, description: commit}
    - commit_timestamp: {usage: LABEL, description: time of the commit}
    - build_date: {usage: LABEL, description: date of the build}
    - worker_info: {usage: GAUGE, description: info}
"""

# What somebody would type for the values of all worker families, with no regard for an `info` that is written by hand.
COPY = """
COPY (SELECT node_id, extract(epoch FROM now() - heartbeat_at), extract(epoch FROM heartbeat_at),
             extract(epoch FROM registered_at), extract(epoch FROM created_at),
             extract(epoch FROM (info->>'stopped_at')::timestamptz), info->>'failure', info->>'exit_code',
             extract(epoch FROM now() - (info->>'progress_at')::timestamptz), info->>'watchdog_seconds',
             info->>'watchdog_triggered',
             info->>'version', info->>'commit_sha', info->>'commit_timestamp', info->>'build_date'
      FROM workers) TO STDOUT
"""

FILL = """
INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at)
SELECT 'worker-' || md5(g::text), now(),
       jsonb_build_object('version', 'v0.0.22-15-g8b065bde', 'commit_sha', '8b065bde9c1a2f3e4d5c6b7a8e9f0a1b2c3d4e5f',
                          'commit_timestamp', '2025-01-15T14:30:00Z', 'build_date', '2025-01-15T15:45:30Z'),
       now(), now()
FROM generate_series(1, %s) g
"""

BEAT = "UPDATE workers SET heartbeat_at = clock_timestamp()"

PROGRESS = """
UPDATE workers SET heartbeat_at = clock_timestamp(),
    info = info || jsonb_build_object('progress', 'block ' || id, 'progress_at', clock_timestamp())
"""

FILL_JOBS = """
INSERT INTO jobs (descriptor) SELECT '{}' FROM generate_series(1, %(unfinished)s + %(completed)s);
INSERT INTO jobs_status (job_id, node_id, status)
SELECT jobs.id, worker.node_id,
       CASE WHEN jobs.id <= %(unfinished)s THEN 'RUNNING' ELSE 'COMPLETED' END
FROM jobs JOIN workers AS worker ON worker.id = 1 + jobs.id %% %(workers)s;
"""


@dataclass
class Peer(ABC):
    """Something that exports each worker, and what that cost it."""

    name: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    size: int = 0

    @abstractmethod
    def scrape(self) -> None:
        """Export all workers once, and note what it cost."""


class Server(Peer):
    """A running exporter."""

    def __init__(self, name: str, command: list[str], port: int, environment: dict[str, str], *, gzip: bool) -> None:
        super().__init__(name)
        self._port, self._gzip, self._ours = port, gzip, "AMP_METADATA_DB_URL" in environment
        self._process = subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(self._answers, 60)

    def _answers(self) -> bool:
        return len(self.get("/-/healthy" if self._ours else "/metrics")) > 0

    def get(self, path: str = "/metrics") -> bytes:
        """Return a response's body."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": "100"} | ({"Accept-Encoding": "gzip"} if self._gzip else {})
        connection.request("GET", path, headers=headers)
        body = connection.getresponse().read()
        connection.close()
        return body

    def _family(self) -> list[psutil.Process]:
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    def _cpu(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._family())

    def scrape(self) -> None:
        cpu, started = self._cpu(), time.perf_counter()
        self.size = len(self.get())
        self.seconds.append(time.perf_counter() - started)
        self.cpu.append(self._cpu() - cpu)
        # The peak of the process that serves, and what a supervisor beside it has for itself alone.
        *supervisors, serving = self._family()
        own = sum(process.memory_full_info().uss for process in supervisors)
        self.megabytes = max(self.megabytes, own / 1e6 + _peak(serving.pid))

    def end(self) -> None:
        for process in self._family():
            process.kill()
        self._process.wait()


class Psql(Peer):
    """The floor: what PostgreSQL itself takes to print the same columns."""

    def __init__(self, psql: Path, url: str) -> None:
        super().__init__("psql COPY (the floor)")
        self._command = [str(psql), "--no-psqlrc", "--quiet", "-c", COPY, url]

    def scrape(self) -> None:
        before, started = os.times(), time.perf_counter()
        self.size = len(subprocess.run(self._command, check=True, capture_output=True).stdout)
        self.seconds.append(time.perf_counter() - started)
        after = os.times()
        self.cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def ours(url: str, *options: str, gzip: bool) -> Server:
    port = free_port()
    command = [str(Path(sys.executable).with_name("ampd")), "exporter", f"--web.listen-address=127.0.0.1:{port}"]
    name = "ampd exporter" + (", gzip" if gzip else "")
    return Server(name, [*command, *options], port, {"AMP_METADATA_DB_URL": url, "AMP_LOG": "error"}, gzip=gzip)


def go(url: str, directory: Path, *, gzip: bool) -> Server:
    port = free_port()
    queries = directory / "queries.yaml"
    queries.write_text(GO_QUERIES)
    program = shutil.which("prometheus-postgres-exporter", path=f"{ROOT / '.tools/bin'}:{os.environ['PATH']}")
    if program is None:
        sys.exit("prometheus-postgres-exporter is not installed, and could not be fetched from Debian")
    command = [program, f"--web.listen-address=127.0.0.1:{port}", f"--extend.query-path={queries}"]
    command += ["--disable-default-metrics", "--disable-settings-metrics"]
    source = f"user=postgres dbname=postgres sslmode=disable host={url.rpartition('host=')[2]}"
    name = "postgres_exporter (Go)" + (", gzip" if gzip else "")
    return Server(name, command, port, {"DATA_SOURCE_NAME": source}, gzip=gzip)


def plain(url: str) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "bench.plain_collector", url, str(port)]
    return Server("plain prometheus-client", command, port, {}, gzip=False)


def fill(connection: psycopg.Connection[object], workers: int) -> None:
    connection.execute("TRUNCATE workers RESTART IDENTITY")
    connection.execute(FILL, [workers])
    for _ in range(2):
        connection.execute(BEAT)
        connection.execute("VACUUM ANALYZE workers")


def compare(workers: int, rounds: int) -> None:
    """Print the table of one fleet."""
    with postgres() as (server, programs), psycopg.connect(server.url, autocommit=True) as connection:
        fill(connection, workers)
        directory = Path(tempfile.mkdtemp(prefix="amp-bench-go-"))
        peers: list[Peer] = [
            ours(server.url, gzip=False),
            go(server.url, directory, gzip=False),
            ours(server.url, gzip=True),
            go(server.url, directory, gzip=True),
            plain(server.url),
            Psql(programs / "psql", server.url),
        ]
        try:
            for number in range(rounds + 1):
                for peer in peers:
                    connection.execute(BEAT)
                    peer.scrape()
                    if number == 0:  # the first scrape warms up, and does not count
                        peer.seconds.clear()
                        peer.cpu.clear()
                connection.execute("VACUUM workers")
        finally:
            for peer in peers:
                if isinstance(peer, Server):
                    peer.end()
            shutil.rmtree(directory)
    print_peers(workers, peers)


def print_peers(workers: int, peers: list[Peer]) -> None:
    """Print a row for each, and how much longer ours takes than psql."""
    for index, peer in enumerate(peers):
        against = peers[3] if index == 2 else peers[1]
        ratio = statistics.median(a / b for a, b in zip(peer.seconds, against.seconds, strict=True))
        _row(workers, peer, f"{ratio:.2f}")
    _ratio(workers, "a scrape", peers[0].seconds, "psql COPY", peers[-1].seconds)


def _ratio(workers: int, what: str, seconds: list[float], than: str, reference: list[float]) -> None:
    """Print a ratio in two ways: on a busy machine, the fastest rounds are those that were disturbed least."""
    median = statistics.median(a / b for a, b in zip(seconds, reference, strict=True))
    times = f"{1000 * min(seconds):,.0f} ms, {1000 * min(reference):,.0f} ms"
    fastest = min(seconds) / min(reference)
    print(f"\n{workers:,} workers: {what} / {than}: {fastest:.2f} of the fastest ({times}), {median:.2f} in the median")


def first(workers: int, rounds: int) -> None:
    """Print how long the first scrape of an exporter takes, which reads the details of all workers."""
    seconds = []
    with postgres() as (server, _), psycopg.connect(server.url, autocommit=True) as connection:
        fill(connection, workers)
        for _ in range(rounds):
            connection.execute(BEAT)
            peer = ours(server.url, gzip=False)
            peer.scrape()
            peer.end()
            seconds += peer.seconds
    fastest, median = min(seconds), statistics.median(seconds)
    print(
        f"\n{workers:,} workers: the first scrape of an exporter: {fastest:.2f} s at best, {median:.2f} s in the median"
    )


@contextmanager
def _fleet(workers: int) -> Iterator[tuple[str, psycopg.Connection[object]]]:
    """Run a PostgreSQL with so many workers; yields its URL and a connection."""
    with postgres() as (server, _), psycopg.connect(server.url, autocommit=True) as connection:
        fill(connection, workers)
        yield server.url, connection


def progress(workers: int, rounds: int) -> None:
    """Print how much longer a scrape takes where each worker has reported progress since the last one."""
    with _fleet(workers) as without, _fleet(workers) as reporting:
        seconds = _scrape_in_turn([(*without, BEAT), (*reporting, PROGRESS)], rounds)
    _ratio(workers, "a scrape with new progress", seconds[1], "without progress", seconds[0])


def jobs(workers: int, unfinished: int, completed: int, rounds: int) -> None:
    """Print how much longer a scrape takes in Amp's own database with this many jobs."""
    with _fleet(workers) as without, _fleet(workers) as (url, connection):
        add_jobs(url)
        numbers = {"workers": workers, "unfinished": unfinished, "completed": completed}
        for statement in FILL_JOBS.split(";")[:2]:
            connection.execute(statement.encode(), numbers)
        connection.execute("VACUUM ANALYZE jobs_status")
        seconds = _scrape_in_turn([(*without, BEAT), (url, connection, BEAT)], rounds)
    what = f"a scrape with {unfinished:,} unfinished and {completed:,} completed jobs"
    _ratio(workers, what, seconds[1], "without jobs", seconds[0])


def _scrape_in_turn(
    fleets: list[tuple[str, psycopg.Connection[object], LiteralString]], rounds: int
) -> list[list[float]]:
    """Return the seconds of so many scrapes of each fleet, with its update of all workers before each."""
    peers = [ours(url, gzip=False) for url, _, _ in fleets]
    try:
        for number in range(rounds + 1):
            for peer, (_, connection, update) in zip(peers, fleets, strict=True):
                connection.execute(update)
                connection.execute("VACUUM workers")
                peer.scrape()
                if number == 0:  # the first scrape reads the details
                    peer.seconds.clear()
    finally:
        for peer in peers:
            peer.end()
    return [peer.seconds for peer in peers]


def health(workers: int, rounds: int) -> None:
    """Print how long `/-/healthy` took at the most while the same process answered scrapes, the first one included."""
    slowest: list[float] = []
    with postgres() as (server, _), psycopg.connect(server.url, autocommit=True) as connection:
        fill(connection, workers)
        peer = ours(server.url, "--web.telemetry-path=/later", gzip=False)
        try:
            for _ in range(rounds):
                connection.execute(BEAT)
                scraping = threading.Thread(target=peer.get, args=("/later",))
                scraping.start()
                while scraping.is_alive():
                    started = time.perf_counter()
                    peer.get("/-/healthy")
                    slowest.append(time.perf_counter() - started)
        finally:
            peer.end()
    median, longest = 1000 * statistics.median(slowest), 1000 * max(slowest)
    print(f"\n/-/healthy during scrapes of {workers:,} workers: median {median:.1f} ms, slowest {longest:.0f} ms\n")


def unhealthy(workers: int, rounds: int) -> None:
    """Print the row of a fleet of which 1 % is sick, with --collector.workers=unhealthy."""
    with postgres() as (server, _), psycopg.connect(server.url, autocommit=True) as connection:
        fill(connection, workers)
        # A million rows take longer to update than a worker takes to be stale: the threshold is an hour here.
        connection.execute("UPDATE workers SET heartbeat_at = now() - interval '2 hours' WHERE id % 100 = 0")
        connection.execute("VACUUM ANALYZE workers")
        thresholds = ("--stale-after=3600", "--lost-after=3600", "--collector.workers=unhealthy")
        peer = ours(server.url, *thresholds, gzip=False)
        peer.name = "ampd exporter, unhealthy"
        try:
            for number in range(rounds + 1):
                connection.execute("UPDATE workers SET heartbeat_at = clock_timestamp() WHERE id % 100 <> 0")
                connection.execute("VACUUM workers")
                peer.scrape()
                if number == 0:
                    peer.seconds.clear()
                    peer.cpu.clear()
        finally:
            peer.end()
    _row(workers, peer, "")


_PEER = "prometheus-postgres-exporter"


def _row(workers: int, peer: Peer, ratio: str) -> None:
    milliseconds, cpu = (1000 * statistics.median(each) for each in (peer.seconds, peer.cpu))
    memory = f"{peer.megabytes:.0f}" if peer.megabytes else ""
    cells = (f"{workers:,}", peer.name, f"{milliseconds:,.0f}", ratio, f"{cpu:,.0f}", memory, f"{peer.size / 1e6:.1f}")
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[1_000, 10_000, 100_000], metavar="N")
    parser.add_argument("--unhealthy", type=int, default=1_000_000, metavar="N", help="0 leaves that row out")
    parser.add_argument(
        "--details",
        type=int,
        default=100_000,
        metavar="N",
        help="workers of the first scrape, and of those with progress and with jobs; 0 leaves these out",
    )
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    subprocess.run([ROOT / "tests/tools/fetch", f"{_PEER}:{_PEER}"], check=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{machine}; medians of {arguments.rounds} rounds\n")
    print("| workers | what | scrape, ms | ÷ Go | CPU of its own, ms | peak memory, MB | response, MB |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for workers in arguments.workers:
        compare(workers, arguments.rounds)
    if arguments.workers:
        health(max(arguments.workers), arguments.rounds)
    if arguments.details:
        first(arguments.details, arguments.rounds)
        progress(arguments.details, arguments.rounds)
        jobs(arguments.details, 50_000, 2_000_000, arguments.rounds)
    if arguments.unhealthy:
        unhealthy(arguments.unhealthy, arguments.rounds)


if __name__ == "__main__":
    main()
