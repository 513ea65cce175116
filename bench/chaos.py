"""Random faults over a small fleet of real processes: `.venv/bin/python -m bench.chaos --seed 1`.

First the metadata DB is stopped for 1 s, 30 s and 5 min, and the network is black-holed for as long. Then, for ten
minutes, workers are killed, frozen, replaced and deleted, sessions ended, PostgreSQL restarted, killed, frozen, made
read-only and its disk filled, the network frozen and reset, in random order. After each fault is lifted, it is measured
how long it takes until every worker has beaten again. In the end all must be active, no node id may ever have been
beaten for by two processes, and no session, thread, file or memory may have leaked.

As root, where the machine allows it, PostgreSQL lies on a small file system of its own, so that its disk can be full.
"""

import argparse
import contextlib
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from bench.servers import postgres
from tests.pgbouncer import start_pgbouncer
from tests.processes import ROOT, Process, Processes, eventually
from tests.relay import Relay
from tests.worker.history import keep_history, registrations

RECOVERY_LIMIT_SECONDS = 30.0

_DISK_MEGABYTES = 700


class Fleet:
    """So many workers, every fifth of them through PgBouncer, all of them behind a network that can fail."""

    def __init__(self, server: EmbeddedPostgres, processes: Processes, directory: Path, workers: int) -> None:
        self.server = server
        self.network = Relay(server.url.rpartition("host=")[2] + "/.s.PGSQL.5432")
        self._pgbouncer = Relay(("127.0.0.1", start_pgbouncer(processes, server, directory)))
        self._processes = processes
        self._versions: dict[str, int] = defaultdict(int)
        self.workers: dict[str, Process] = {}
        self.replaced: list[Process] = []
        for number in range(workers):
            self.start(f"pooled-{number}" if number % 5 == 0 else f"direct-{number}")

    def start(self, node_id: str) -> None:
        """Start a process for a node id, which is then the one that is meant to have it."""
        self._versions[node_id] += 1
        relay = self._pgbouncer if node_id.startswith("pooled") else self.network
        if node_id in self.workers:
            self.replaced.append(self.workers[node_id])
        self.workers[node_id] = self._processes.ampd(
            "worker",
            f"--node-id={node_id}",
            database=f"postgresql://postgres@127.0.0.1:{relay.port}/postgres",
            env={"PGAPPNAME": f"{node_id}#{self._versions[node_id]}"},
        )

    @property
    def networks(self) -> tuple[Relay, Relay]:
        return self.network, self._pgbouncer

    def sql(self, statement: str, *parameters: object) -> list[Any]:
        """Ask on a new connection, past the network that fails."""
        with psycopg.connect(self.server.url, autocommit=True, connect_timeout=2) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def recovery(self) -> float:
        """Return after how many seconds every worker has beaten, from now on."""
        began = time.monotonic()
        since = self.sql("SELECT clock_timestamp()")[0][0]
        late = "SELECT count(*) FROM workers WHERE heartbeat_at > %s AND NOT info ? 'stopped_at'"
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.sql(late, since) == [(len(self.workers),)], RECOVERY_LIMIT_SECONDS)
            return time.monotonic() - began
        beaten = {row[0] for row in self.sql("SELECT node_id FROM workers WHERE heartbeat_at > %s", since)}
        for node_id in sorted(self.workers.keys() - beaten):
            print(f"\n{node_id} sends no heartbeats:\n{self.workers[node_id].output}", file=sys.stderr)
        raise SystemExit(f"not all workers sent heartbeats within {RECOVERY_LIMIT_SECONDS:.0f} s")

    def restart(self) -> None:
        """See to it that PostgreSQL runs and answers."""

        def answers() -> bool:
            # On a full disk it may give up its own recovery only after it was looked at.
            if self.server.pid is None or self.server.poll() is not None:
                self.server.start(lambda _: None)
            with contextlib.suppress(psycopg.Error):
                return self.sql("SELECT 1") == [(1,)]
            return False

        eventually(answers, 60)


class Faults:
    """What can go wrong. Each does it, waits, and lifts it again."""

    def __init__(self, fleet: Fleet, chance: random.Random, disk: Path | None) -> None:
        self._fleet, self._chance, self._disk = fleet, chance, disk

    def all(self) -> list[Callable[[], None]]:
        faults = [
            self.workers_killed,
            self.workers_frozen,
            self.workers_frozen_and_replaced,
            self.rows_deleted,
            self.sessions_ended,
            self.table_locked,
            self.network_frozen,
            self.network_reset,
            self.postgres_restarted,
            self.postgres_killed,
            self.postgres_frozen,
            self.postgres_read_only,
        ]
        return [*faults, self.disk_full] if self._disk is not None else faults

    def _some(self) -> list[str]:
        return self._chance.sample(sorted(self._fleet.workers), self._chance.randint(1, 10))

    def _wait(self, longest: float = 8.0) -> None:
        time.sleep(self._chance.uniform(0.2, longest))

    def workers_killed(self) -> None:
        for node_id in self._some():
            self._fleet.workers[node_id].signal(signal.SIGKILL)
            self._fleet.start(node_id)

    def workers_frozen(self) -> None:
        frozen = self._some()
        for node_id in frozen:
            self._fleet.workers[node_id].signal(signal.SIGSTOP)
        self._wait()
        for node_id in frozen:
            self._fleet.workers[node_id].signal(signal.SIGCONT)

    def workers_frozen_and_replaced(self) -> None:
        frozen = {node_id: self._fleet.workers[node_id] for node_id in self._some()}
        for node_id, process in frozen.items():
            process.signal(signal.SIGSTOP)
            self._fleet.start(node_id)
        time.sleep(self._chance.uniform(6.5, 9))
        for process in frozen.values():
            process.signal(signal.SIGCONT)

    def rows_deleted(self) -> None:
        self._fleet.sql("DELETE FROM workers WHERE node_id = ANY(%s)", self._some())

    def sessions_ended(self) -> None:
        self._fleet.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE split_part(application_name, '#', 1) = ANY(%s)",
            self._some(),
        )

    def table_locked(self) -> None:
        with psycopg.connect(self._fleet.server.url) as connection:
            connection.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
            self._wait()

    def network_frozen(self) -> None:
        for network in self._fleet.networks:
            network.open.clear()
        self._wait()
        for network in self._fleet.networks:
            # Half the time what was under way never arrives.
            network.open.set() if self._chance.random() < 0.5 else network.forsake()

    def network_reset(self) -> None:
        for network in self._fleet.networks:
            network.reset()

    def postgres_restarted(self) -> None:
        self._fleet.server.stop(5)
        self._wait()
        self._fleet.restart()

    def postgres_killed(self) -> None:
        assert self._fleet.server.pid is not None
        os.kill(self._fleet.server.pid, signal.SIGKILL)
        self._wait()
        self._fleet.restart()

    def postgres_frozen(self) -> None:
        assert self._fleet.server.pid is not None
        postmaster = psutil.Process(self._fleet.server.pid)
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            process.suspend()
        self._wait()
        for process in family:
            process.resume()

    def postgres_read_only(self) -> None:
        with psycopg.connect(self._fleet.server.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            connection.execute("SELECT pg_reload_conf()")
            self._wait()
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")

    def disk_full(self) -> None:
        """Full to the last byte, and PostgreSQL is made to need more: it writes no log of its writes any more."""
        assert self._disk is not None
        ballast = self._disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with contextlib.suppress(psycopg.Error):
            for _ in range(20):
                self._fleet.sql("SELECT pg_switch_wal()")
                time.sleep(0.1)
        self._wait()
        ballast.unlink()
        self._fleet.restart()


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """Mount a file system of 700 MB, or yield None where that is not allowed."""
    with tempfile.TemporaryDirectory(prefix="amp-disk-") as directory:
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MEGABYTES}m,mode=755", "tmpfs", directory]
        mounted = os.geteuid() == 0 and subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
        try:
            yield Path(directory) if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", directory], check=True)  # noqa: S607 - as mount


def outages(fleet: Fleet, seconds: list[float]) -> None:
    """Print how long after an outage every worker has beaten again."""
    for length in seconds:
        fleet.server.stop(5)
        time.sleep(length)
        fleet.restart()
        row(f"PostgreSQL stopped for {length:.0f} s", [fleet.recovery()])
        for network in fleet.networks:
            network.open.clear()
        time.sleep(length)
        for network in fleet.networks:
            network.open.set()
        row(f"network black-holed for {length:.0f} s", [fleet.recovery()])


PROMISED_SECONDS = {"network": 5.0, "workers": 7.0}
"""Until all send heartbeats again, by a fault's first word: a takeover takes 5 s, and the successor has to start.
2 s for all that befalls the database."""

too_late: list[str] = []
"""What took longer than promised."""


def row(what: str, seconds: list[float]) -> None:
    """Print a line of the table."""
    if max(seconds) > PROMISED_SECONDS.get(what.split(maxsplit=1)[0], 2.0):
        too_late.append(what)
    print(f"| {what} | {len(seconds)} | {statistics.median(seconds):.1f} | {max(seconds):.1f} |", flush=True)


def chaos(fleet: Fleet, seed: int, minutes: float, disk: Path | None) -> None:
    """Do random things for so many minutes, and print how long each took to be over."""
    chance = random.Random(seed)  # noqa: S311 - faults are no secret
    faults = Faults(fleet, chance, disk).all()
    recoveries: dict[str, list[float]] = defaultdict(list)
    ends = time.monotonic() + 60 * minutes
    while time.monotonic() < ends:
        fault = chance.choice(faults)
        fault()
        recoveries[fault.__name__.replace("_", " ")].append(fleet.recovery())
        time.sleep(chance.uniform(0, 2))
    for name, seconds in sorted(recoveries.items()):
        row(name, seconds)


def resources(process: Process) -> tuple[int, int, int]:
    """Threads, open files and resident bytes."""
    found = psutil.Process(process.pid)
    return found.num_threads(), found.num_fds(), found.memory_info().rss


def check(fleet: Fleet, before: dict[int, tuple[int, int, int]]) -> None:
    """Hold the fleet to what it was, and to one process a node id."""
    time.sleep(10)
    states = fleet.sql(
        "SELECT count(*), count(*) FILTER (WHERE heartbeat_at > now() - interval '2 seconds') FROM workers"
    )
    codes = sorted({process.wait() for process in fleet.replaced})
    direct = [node_id for node_id in fleet.workers if node_id.startswith("direct")]
    sessions = fleet.sql(
        "SELECT count(*), count(DISTINCT application_name) FROM pg_stat_activity "
        "WHERE application_name LIKE 'direct-%%' AND client_port IS NOT NULL"
    )
    written = {node_id: [at for at, _ in registrations(fleet.sql, node_id)] for node_id in fleet.workers}
    twice = [node_id for node_id, moments in written.items() if len(moments) != len(set(moments))]
    beats = fleet.sql("SELECT count(*) FROM history")[0][0]
    after = {process.pid: resources(process) for process in fleet.workers.values()}
    same = [pid for pid in after if pid in before]
    most_before, most_after = ([max(each[i] for each in d.values()) for i in range(3)] for d in (before, after))
    grown = max((after[pid][2] - before[pid][2] for pid in same), default=0)
    print(f"\nworkers active: {states[0][1]} of {len(fleet.workers)}, rows: {states[0][0]}")
    print(f"node ids with heartbeats of two processes at the same time: {len(twice)}, in {beats:,} writes")
    print(f"sessions of the {len(direct)} direct workers: {sessions[0][0]}, of as many names: {sessions[0][1]}")
    print(f"exit codes of the {len(fleet.replaced)} that were killed or replaced: {codes}")
    print(f"most threads, files and MB of a worker: {_shown(most_before)} before, {_shown(most_after)} after")
    print(f"the {len(same)} that ran all the time grew by {grown / 1e6:.1f} MB at most")
    held = (
        states == [(len(fleet.workers), len(fleet.workers))]
        and not twice
        and sessions == [(len(direct), len(direct))]
        and set(codes) <= {-signal.SIGKILL, 3}
        and most_after[0] <= most_before[0] + 1  # the thread that ends what is late, once it was needed
        and most_after[1] <= most_before[1]
        and grown < 5_000_000
        and not too_late
    )
    print(f"later than promised: {', '.join(too_late) or 'nothing'}")
    print("held" if held else "DID NOT HOLD")
    if not held:
        sys.exit(1)


def _shown(figures: list[int]) -> str:
    return f"{figures[0]}, {figures[1]}, {figures[2] / 1e6:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--outages", type=float, nargs="*", default=[1, 30, 300], metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311 - faults are no secret
    arguments = parser.parse_args()
    subprocess.run([ROOT / "tests/tools/fetch"], check=True)
    os.environ["PATH"] = f"{ROOT / '.tools/bin'}:{os.environ['PATH']}"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{machine}; {arguments.workers} workers, --seed {arguments.seed}\n")
    print("| fault | times | until all send heartbeats again: median, s | worst, s |")
    print("| --- | ---: | ---: | ---: |")
    with small_disk() as disk, postgres(parent=disk) as (server, _), tempfile.TemporaryDirectory() as logs:
        Path(logs).chmod(0o755)
        processes = Processes(Path(logs))
        try:
            fleet = Fleet(server, processes, Path(logs), arguments.workers)
            eventually(lambda: fleet.sql("SELECT count(*) FROM workers") == [(arguments.workers,)], 60)
            keep_history(fleet.sql)
            time.sleep(10)
            before = {process.pid: resources(process) for process in fleet.workers.values()}
            outages(fleet, arguments.outages)
            chaos(fleet, arguments.seed, arguments.minutes, disk)
            check(fleet, before)
        finally:
            processes.end()


if __name__ == "__main__":
    main()
