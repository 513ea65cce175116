"""What heartbeats cost, side by side: `.venv/bin/python -m bench.heartbeats`.

(a) How many a PostgreSQL takes: pgbench with our exact statement, with the naive one (each beat waits for the disk, is
    parsed anew, and finds full pages), and with what lies between; in turn, round by round.
(b) How large a fleet holds: workers that are simulated in a few processes, each with the worker's own heartbeat code
    and a connection of its own, beside PostgreSQL on the same machine; directly and through PgBouncer.
(c) What one `ampd worker` process costs.
"""

import argparse
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
from sqlalchemy.dialects import postgresql

from amp_workers.metadata_db import MetadataDbUrl
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.metadata_db.registrations import BEAT, progress_beat
from amp_workers.worker import Heartbeat
from bench.scrape import FILL
from bench.servers import connect, postgres
from tests.pgbouncer import start_pgbouncer
from tests.processes import BIN, ROOT, Processes, eventually

INTERVAL_SECONDS = 1.0
STALE_SECONDS = 5.0
TARGET_P99_SECONDS = 2.0


# (a) --------------------------------------------------------------------------------------------------------------

NAIVE = "UPDATE workers SET heartbeat_at = now() WHERE node_id = %s AND registered_at = %s"


def _with_progress() -> str:
    """Return our statement that carries new progress, with the same places for parameters."""
    progress = {"progress": "<text>", "progress_age": 0.5, "watchdog_seconds": 60.0, "watchdog_triggered": None}
    statement = progress_beat("<node_id>", datetime(2026, 1, 1, tzinfo=UTC), progress)
    written = str(statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))  # type: ignore[no-untyped-call]
    for literal, place in (("<text>", "'block ' || :g"), ("<node_id>", "%s"), ("2026-01-01 00:00:00+00:00", "%s")):
        written = written.replace(f"'{literal}'", place)
    return written


@dataclass(frozen=True)
class Ceiling:
    """One way to write a heartbeat."""

    name: str
    statement: str
    protocol: str
    fillfactor: int


CEILINGS = (
    Ceiling("ours", BEAT, "prepared", 50),
    Ceiling("ours, with new progress in each", _with_progress(), "prepared", 50),
    Ceiling("ours, not prepared (through PgBouncer)", BEAT, "extended", 50),
    Ceiling("naive, but prepared, with room on the page", NAIVE, "prepared", 50),
    Ceiling("naive", NAIVE, "simple", 100),
)


def ceilings(rows: int, rounds: int, seconds: int) -> None:
    """Print how many heartbeats a second PostgreSQL takes of each kind."""
    print(f"\n(a) {rows:,} rows, pgbench with 8 clients, medians of {rounds} rounds of {seconds} s\n")
    print("| heartbeat | heartbeats/s | ÷ naive | HOT, % | WAL per heartbeat, bytes |")
    print("| --- | ---: | ---: | ---: | ---: |")
    found: dict[str, list[tuple[float, float, float]]] = {each.name: [] for each in CEILINGS}
    with postgres() as (server, programs), connect(server) as connection:
        for _ in range(rounds):
            for each in CEILINGS:
                found[each.name].append(_ceiling(each, rows, seconds, server, programs, connection))
    naive = [rate for rate, _, _ in found["naive"]]
    for name, figures in found.items():
        rate, hot, wal = (statistics.median(column) for column in zip(*figures, strict=True))
        ratio = statistics.median(ours[0] / theirs for ours, theirs in zip(figures, naive, strict=True))
        print(f"| {name} | {rate:,.0f} | {ratio:.2f} | {hot:.1f} | {wal:.0f} |", flush=True)


def _ceiling(
    each: Ceiling,
    rows: int,
    seconds: int,
    server: EmbeddedPostgres,
    programs: Path,
    connection: psycopg.Connection[tuple[object, ...]],
) -> tuple[float, float, float]:
    connection.execute(f"ALTER TABLE workers SET (fillfactor = {each.fillfactor})".encode())
    connection.execute("TRUNCATE workers RESTART IDENTITY")
    connection.execute(FILL.replace("'worker-' || md5(g::text)", "'worker-' || g").encode(), [rows])
    connection.execute("UPDATE workers SET registered_at = '2026-01-01'")
    connection.execute("VACUUM (FULL, ANALYZE) workers")
    connection.execute("CHECKPOINT")
    connection.execute("SELECT pg_stat_reset()")
    before = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    assert before is not None
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        statement = each.statement.replace("%s", "'worker-' || :g", 1).replace("%s", "'2026-01-01'", 1).strip()
        script.write(f"\\set g random(1, {rows})\n{statement};\n")
        script.flush()
        command = [str(programs / "pgbench"), "--no-vacuum", "--protocol", each.protocol, "--client=8", "--jobs=2"]
        command += [f"--time={seconds}", f"--file={script.name}", server.url]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = float(told.split("tps = ")[1].split()[0])
    time.sleep(1.5)  # until the sessions' last counts are in
    counts = connection.execute(
        "SELECT n_tup_upd::float8, n_tup_hot_upd::float8, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)::float8 "
        "FROM pg_stat_user_tables WHERE relname = 'workers'",
        [before[0]],
    ).fetchone()
    assert counts is not None
    updates, hot, wal = (float(str(count)) for count in counts)
    return rate, 100 * hot / updates, wal / updates


# (b) --------------------------------------------------------------------------------------------------------------

ADJUSTED = "max_connections = {connections}\nsuperuser_reserved_connections = 10\n"

_WORKERS_A_PROCESS = 250
"""A thread each. A thousand in one process spend their time waiting for each other's GIL, with the machine idle."""

_START_SECONDS = 0.02
"""Between two starts in a fleet: to connect and register takes 8 ms of a machine that is to beat as well."""


def simulate(url: str, first: int, number: int, start_seconds: float) -> None:
    """Be so many workers, until SIGTERM: a thread and a connection each, and the worker's own code.

    start_seconds: between two starts.
    """
    threading.stack_size(256 * 1024)
    parsed = MetadataDbUrl.parse(url)
    info = {"version": "v0.0.22-15-g8b065bde", "commit_sha": "8b065bde9c1a2f3e4d5c6b7a8e9f0a1b2c3d4e5f"}
    for index in range(number):
        Heartbeat(parsed, f"worker-{first + index}", info).start()
        time.sleep(start_seconds)
    signal.sigwait([signal.SIGTERM])
    os._exit(0)  # nobody wants to hear of so many stops


@dataclass
class FleetFigures:
    """How a fleet did."""

    p50: float
    p99: float
    worst: float
    ever_stale: int
    beats_per_second: float
    cpu: dict[str, float]
    """Cores in use, by part."""

    @property
    def holds(self) -> bool:
        return self.p99 < TARGET_P99_SECONDS and self.ever_stale == 0


@contextmanager
def _fleet(url: str, workers: int) -> Iterator[list[psutil.Process]]:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    parts = math.ceil(workers / _WORKERS_A_PROCESS)
    share = math.ceil(workers / parts)
    command = [sys.executable, "-m", "bench.heartbeats", "--simulate", url, str(_START_SECONDS * parts)]
    started: list[psutil.Process] = [
        psutil.Popen([*command, str(first), str(min(share, workers - first))], cwd=ROOT, stderr=subprocess.DEVNULL)
        for first in range(0, workers, share)
    ]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    try:
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()


def measure_fleet(workers: int, seconds: float, *, pooled: bool) -> FleetFigures:
    """Run a fleet, and look at the age of each worker's heartbeat twice a second, by the database's clock."""
    connections = 200 if pooled else workers + 100
    with (
        postgres(ADJUSTED.format(connections=connections)) as (server, _),
        connect(server) as connection,
        tempfile.TemporaryDirectory() as directory,
    ):
        Path(directory).chmod(0o755)
        processes = Processes(Path(directory))
        url, pooler = server.url, []
        try:
            if pooled:
                port = start_pgbouncer(processes, server, Path(directory), pool_size=20)
                url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
                pooler = [psutil.Process(each.pid) for each in processes.started]
            with _fleet(url, workers) as parts:
                registered = "SELECT count(*) = %s FROM workers WHERE heartbeat_at > now() - interval '2 seconds'"
                eventually(lambda: connection.execute(registered, [workers]).fetchone() == (True,), 30 + workers / 50)
                time.sleep(5)
                return _watch(
                    connection, seconds, {"workers": parts, "PgBouncer": pooler, "PostgreSQL": _family(server)}
                )
        finally:
            processes.end()


def _family(server: EmbeddedPostgres) -> list[psutil.Process]:
    process = psutil.Process(server.pid)
    return [process, *process.children(recursive=True)]


def _watch(
    connection: psycopg.Connection[tuple[object, ...]], seconds: float, parts: dict[str, list[psutil.Process]]
) -> FleetFigures:
    ages: list[float] = []
    stale: set[object] = set()

    def cpu() -> dict[str, float]:
        return {name: sum(sum(each.cpu_times()[:2]) for each in family) for name, family in parts.items() if family}

    def beats() -> float:
        counted = connection.execute("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'workers'").fetchone()
        assert counted is not None
        return float(str(counted[0]))

    before, beaten, started = cpu(), beats(), time.monotonic()
    while time.monotonic() < started + seconds:
        looked = time.monotonic()
        rows = connection.execute(
            "SELECT node_id, extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 FROM workers"
        ).fetchall()
        ages += [float(str(age)) for _, age in rows]
        stale |= {node_id for node_id, age in rows if float(str(age)) > STALE_SECONDS}
        time.sleep(max(0.0, looked + 0.5 - time.monotonic()))
    took = time.monotonic() - started
    rate = (beats() - beaten) / took
    used = {name: (after - before[name]) / took for name, after in cpu().items()}
    cuts = statistics.quantiles(ages, n=100)
    return FleetFigures(cuts[49], cuts[98], max(ages), len(stale), rate, used)


def fleets(sizes: list[int], seconds: float) -> None:
    """Print how fleets of these sizes do, each way until one does not hold."""
    print(f"\n(b) simulated fleets, {seconds:.0f} s each; age of a heartbeat in seconds, CPU in cores\n")
    print(
        "| connections | workers | age, s: median | p99 | worst | ever stale | heartbeats/s | CPU of workers "
        "| PgBouncer | PostgreSQL |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for pooled in (False, True):
        for workers in sizes:
            try:
                found = measure_fleet(workers, seconds, pooled=pooled)
            except AssertionError as error:
                print(f"| {'PgBouncer' if pooled else 'direct'} | {workers:,} | never did all beat: {error} |")
                break
            cpu = [
                f"{found.cpu[name]:.2f}" if name in found.cpu else "" for name in ("workers", "PgBouncer", "PostgreSQL")
            ]
            cells = [
                "PgBouncer" if pooled else "direct",
                f"{workers:,}",
                *(f"{value:.2f}" for value in (found.p50, found.p99, found.worst)),
                str(found.ever_stale),
                f"{found.beats_per_second:,.0f}",
                *cpu,
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
            if not found.holds:
                break


# (c) --------------------------------------------------------------------------------------------------------------


def one_process(number: int, seconds: float) -> None:
    """Print what an `ampd worker` costs: the medians of some that run at the same time."""
    print(f"\n(c) one `ampd worker` process, medians of {number}, over {seconds:.0f} s\n")
    print("| what | CPU, % of a core | resident, MB | of its own (USS), MB | start to first heartbeat, s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with postgres() as (server, _), connect(server) as connection, tempfile.TemporaryDirectory() as directory:
        processes = Processes(Path(directory))
        try:
            starts: list[float] = []
            workers: list[psutil.Process] = []
            for index in range(number):
                started = time.monotonic()
                worker = processes.ampd("worker", f"--node-id=w{index}", database=server.url)
                while not connection.execute("SELECT 1 FROM workers WHERE node_id = %s", [f"w{index}"]).fetchone():
                    time.sleep(0.005)
                starts.append(time.monotonic() - started)
                workers.append(psutil.Process(worker.pid))
            time.sleep(3)
            before = [sum(each.cpu_times()[:2]) for each in workers]
            time.sleep(seconds)
            used = [sum(each.cpu_times()[:2]) - cpu for each, cpu in zip(workers, before, strict=True)]
            memory = [each.memory_full_info() for each in workers]
            resident, own = (
                statistics.median(each) / 1e6 for each in ([m.rss for m in memory], [m.uss for m in memory])
            )
            percent = 100 * statistics.median(used) / seconds
            print(f"| ampd worker | {percent:.2f} | {resident:.0f} | {own:.0f} | {statistics.median(starts):.2f} |")
        finally:
            processes.end()
    bare = "import sqlalchemy.dialects.postgresql.psycopg, psycopg, time; print(flush=True); time.sleep(60)"
    with psutil.Popen([BIN / "python", "-c", bare], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        info = process.memory_full_info()
        process.kill()
    print(f"| SQLAlchemy and psycopg imported, and nothing else | | {info.rss / 1e6:.0f} | {info.uss / 1e6:.0f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of (a); 0 leaves it out")
    parser.add_argument("--fleets", type=int, nargs="*", default=[2000, 2250, 2500, 2750, 3000], metavar="N")
    parser.add_argument("--seconds", type=float, default=60, help="of (b) and (c)")
    parser.add_argument("--processes", type=int, default=5, help="of (c); 0 leaves it out")
    parser.add_argument("--simulate", nargs=4, metavar=("URL", "SECONDS", "FIRST", "NUMBER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.simulate:
        url, start_seconds, first, number = arguments.simulate
        simulate(url, int(first), int(number), float(start_seconds))
    subprocess.run([ROOT / "tests/tools/fetch"], check=True)
    os.environ["PATH"] = f"{ROOT / '.tools/bin'}:{os.environ['PATH']}"
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    if arguments.rounds:
        ceilings(10_000, arguments.rounds, 5)
    if arguments.fleets:
        fleets(arguments.fleets, arguments.seconds)
    if arguments.processes:
        one_process(arguments.processes, arguments.seconds)


if __name__ == "__main__":
    main()
