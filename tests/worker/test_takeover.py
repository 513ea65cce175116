"""Two processes with one node id never send heartbeats at the same time, and a silent one is replaced."""

import contextlib
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from amp_workers.metadata_db import MetadataDbUrl, backend_of, connect, single_engine
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.worker.progress import ProgressReports
from amp_workers.worker.takeover import NodeIdClaim
from tests.pgbouncer import start_pgbouncer
from tests.processes import Process, Processes, eventually, freeze
from tests.relay import Relay, socket_of
from tests.worker.history import keep_history, registrations, reigns

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]


def name_of(database: str) -> str:
    return database.rpartition("?")[0].rpartition("/")[2]


@pytest.fixture
def pgbouncer(processes: Processes, postgres: EmbeddedPostgres, tmp_path: Path) -> int:
    return start_pgbouncer(processes, postgres, tmp_path)


@pytest.fixture
def relays() -> Iterator[Callable[[str | tuple[str, int]], Relay]]:
    with contextlib.ExitStack() as made:

        def relay(target: str | tuple[str, int]) -> Relay:
            each = Relay(target)
            made.callback(each.close)
            return each

        yield relay


@pytest.mark.parametrize("asked_to_stop", [False, True])
def test_a_frozen_worker_gives_way_and_reports_it_when_it_wakes(
    processes: Processes, database: str, sql: Sql, asked_to_stop: bool
) -> None:
    keep_history(sql)
    first = processes.ampd("worker", "--node-id=w", database=database, env={"PGAPPNAME": "first"})
    first.says("registered")
    first.freeze()
    second = processes.ampd("worker", "--node-id=w", database=database, env={"PGAPPNAME": "second"})
    second.says(", which holds node id 'w': it is silent")
    second.says("registered as 'w'")
    # The successor did not register too early.
    silence = sql(
        "SELECT (SELECT min(arrived_at) FROM history WHERE writer = 'second') "
        "     - (SELECT max(heartbeat_at) FROM history WHERE writer = 'first')"
    )[0][0]
    assert silence.total_seconds() > 5
    # When a service manager stops the replaced worker, it leaves its successor's row unchanged.
    if asked_to_stop:
        first.signal(signal.SIGTERM)
    first.signal(signal.SIGCONT)
    assert first.wait() == 3
    assert "node id 'w' was taken over by another worker process, which registered at" in first.output
    assert first.output.count("level=warn") == 1
    assert reigns(sql, "w") == ["first", "second"]
    assert second.stop() == 0


def test_a_disconnected_worker_gives_way(
    processes: Processes, database: str, postgres: EmbeddedPostgres, sql: Sql, relays: Callable[[str], Relay]
) -> None:
    """PostgreSQL has not noticed the failure: it receives no packets from the unreachable first process."""
    keep_history(sql)
    relay = relays(socket_of(postgres))
    url = f"postgresql://postgres@127.0.0.1:{relay.port}/{name_of(database)}"
    first = processes.ampd("worker", "--node-id=w", database=url, env={"PGAPPNAME": "first"})
    first.says("registered")
    relay.open.clear()
    second = processes.ampd("worker", "--node-id=w", database=database, env={"PGAPPNAME": "second"})
    second.says("registered as 'w'")
    first.says("'w' cannot send heartbeats, and retries")
    relay.open.set()
    assert first.wait() == 3
    assert reigns(sql, "w") == ["first", "second"]


def test_a_worker_whose_network_returns_ends_its_own_old_session(
    processes: Processes, database: str, postgres: EmbeddedPostgres, sql: Sql, relays: Callable[[str], Relay]
) -> None:
    relay = relays(socket_of(postgres))
    url = f"postgresql://postgres@127.0.0.1:{relay.port}/{name_of(database)}"
    worker = processes.ampd("worker", "--node-id=w", database=url)
    worker.says("registered")
    relay.open.clear()
    worker.says("cannot send heartbeats")
    # PostgreSQL does not notice the end of the old session, which holds the lock.
    relay.forsake()
    worker.says(", which holds node id 'w': it is an old one of this worker")
    worker.says("'w' sends heartbeats again after")
    held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ampd worker w'"
    eventually(lambda: sql(held) == [(1,)])


def test_a_worker_ends_its_own_old_session_at_once(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """The worker logs no warning: the old session may have been about to end."""
    caplog.set_level(logging.INFO, logger="amp_workers.worker")
    engine = single_engine(MetadataDbUrl.parse(database), "w", statement_timeout=5)
    claim = NodeIdClaim("w", {}, ProgressReports())
    with connect(engine, 5) as old, connect(engine, 5) as new:
        assert claim.take(old, Event())
        registered_at = claim.registered_at
        caplog.clear()
        assert claim.take(new, Event())
        assert [(each.levelname, each.args) for each in caplog.records] == [
            ("INFO", (backend_of(old), "w", "an old one of this worker"))
        ]
        assert claim.registered_at == registered_at
        old.invalidate()


def test_a_session_that_may_not_be_ended_is_logged(processes: Processes, database: str, sql: Sql) -> None:
    sql("CREATE ROLE one LOGIN")
    sql("CREATE ROLE other LOGIN")
    try:
        sql("GRANT ALL ON workers TO one, other")
        first = processes.ampd("worker", "--node-id=w", database=database.replace("postgres@", "one@"))
        first.says("registered")
        first.freeze()
        second = processes.ampd("worker", "--node-id=w", database=database.replace("postgres@", "other@"))
        second.says("or GRANT pg_signal_backend TO other, or run as a superuser: SELECT pg_terminate_backend(")
        sql("GRANT pg_signal_backend TO other")
        second.says("registered as 'w'")
        first.signal(signal.SIGCONT)
        assert first.wait() == 3
    finally:
        processes.end()
        sql("DROP OWNED BY one, other")
        sql("DROP ROLE one, other")


def test_a_worker_logs_and_waits_for_a_session_that_does_not_end(processes: Processes, database: str, sql: Sql) -> None:
    """The session's server process is frozen as well."""
    first = processes.ampd("worker", "--node-id=w", database=database)
    first.says("registered")
    first.freeze()
    # During a statement, the session could hold a lock that all others wait for.
    idle = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ampd worker w' AND wait_event = 'ClientRead'"
    [(session,)] = eventually(lambda: sql(idle))
    freeze(session)
    try:
        second = processes.ampd("worker", "--node-id=w", database=database)
        second.says(f"session {session}, which holds node id 'w', does not end")
    finally:
        os.kill(session, signal.SIGCONT)
    second.says("registered as 'w'")


def test_through_pgbouncer_the_fence_alone_holds(processes: Processes, database: str, sql: Sql, pgbouncer: int) -> None:
    keep_history(sql)
    url = f"postgresql://postgres@127.0.0.1:{pgbouncer}/{name_of(database)}"

    def start(version: str) -> Process:
        return processes.ampd("worker", "--node-id=w", database=url, env={"PGAPPNAME": version})

    first = start("first")
    first.says("registered")
    assert first.output.count("But a worker of Amp's own finds no lock") == 1
    # No lock stays behind in a session that other clients get.
    assert sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    refused = start("refused")
    assert refused.wait() == 1
    assert "node id 'w' is held by another worker process" in refused.output
    first.freeze()
    second = start("second")
    second.says("registered as 'w'")
    first.signal(signal.SIGCONT)
    assert first.wait() == 3
    second.signal(signal.SIGKILL)
    third = start("third")
    third.says("registered as 'w'")
    assert third.stop() == 0
    fourth = start("fourth")
    fourth.says("registered as 'w'")
    assert fourth.stop() == 0
    assert reigns(sql, "w") == ["first", "second", "third", "fourth"]


def test_a_worker_that_lost_its_session_keeps_its_node_id(processes: Processes, database: str, sql: Sql) -> None:
    """The lock is free for a moment, and another process waits for it."""
    keep_history(sql)
    first = processes.ampd("worker", "--node-id=w", database=database, env={"PGAPPNAME": "first"})
    first.says("registered")
    first.freeze()
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'first'")
    second = processes.ampd("worker", "--node-id=w", database=database, env={"PGAPPNAME": "second"})
    second.says("takeover after 5 s without a heartbeat")
    first.signal(signal.SIGCONT)
    assert second.wait() == 1
    assert "node id 'w' is held by another worker process" in second.output
    assert second.output.count("takeover after") == 1
    first.says("'w' sends heartbeats again after")
    assert reigns(sql, "w") == ["first"]


class Rivals:
    """Processes that compete for one node id, each behind its own network, and the faults injected into them."""

    def __init__(self, node_id: str, seed: int, start: Callable[[str, str], tuple[Process, Relay]]) -> None:
        self.node_id = node_id
        self.started: list[tuple[Process, Relay]] = []
        self._random = random.Random(seed)  # noqa: S311 - faults are no secret
        self._start = start
        self._numbers = count(1)

    def live(self, seconds: float) -> None:
        """Force one takeover, then inject random faults."""
        self.start()
        self.started[0][0].says("registered")
        self.started[0][0].freeze()
        self.start()
        self.started[1][0].says("registered")
        self.started[0][0].signal(signal.SIGCONT)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            running = self.running()
            if len(running) < 2:
                self.start()
            else:
                process, relay = self._random.choice(running)
                faults: list[Callable[[], object]] = [
                    partial(process.signal, signal.SIGSTOP),
                    partial(process.signal, signal.SIGSTOP),
                    partial(process.signal, signal.SIGCONT),
                    partial(process.signal, signal.SIGKILL),
                    relay.open.clear,
                    relay.open.set,
                ]
                self._random.choice(faults)()
            time.sleep(self._random.uniform(0.2, 4.0))
        for process, relay in self.running():
            process.signal(signal.SIGCONT)
            relay.open.set()

    def start(self) -> None:
        self.started.append(self._start(self.node_id, f"{self.node_id}-{next(self._numbers)}"))

    def running(self) -> list[tuple[Process, Relay]]:
        return [(process, relay) for process, relay in self.started if process.popen.poll() is None]


def test_no_two_processes_send_heartbeats_for_one_node_id(
    processes: Processes,
    postgres: EmbeddedPostgres,
    database: str,
    sql: Sql,
    pgbouncer: int,
    relays: Callable[[str | tuple[str, int]], Relay],
) -> None:
    """Freeze, thaw, disconnect, reconnect and kill in random order; directly, and through PgBouncer."""
    seed = int(os.environ.get("SEED") or random.randrange(10**6))  # noqa: S311 - faults are no secret
    print(f"SEED={seed}")
    keep_history(sql)
    one_at_a_time = Lock()

    def start(node_id: str, version: str) -> tuple[Process, Relay]:
        relay = relays(socket_of(postgres) if node_id.startswith("direct") else ("127.0.0.1", pgbouncer))
        url = f"postgresql://postgres@127.0.0.1:{relay.port}/{name_of(database)}"
        with one_at_a_time:
            worker = processes.ampd("worker", "--node-id", node_id, database=url, env={"PGAPPNAME": version})
        return worker, relay

    rivals = [
        Rivals(f"{way}-{number}", seed + 10 * number + len(way), start)
        for way in ("direct", "pooled")
        for number in range(3)
    ]
    with ThreadPoolExecutor(len(rivals)) as threads:
        list(threads.map(lambda each: each.live(18), rivals))
    # The remaining processes agree on one of them, and another process can still take over.
    eventually(lambda: all(len(each.running()) <= 1 for each in rivals))
    active = "SELECT count(*) FROM workers WHERE heartbeat_at > clock_timestamp() - interval '2 seconds'"

    def each_has_one() -> bool:
        for each in rivals:
            if not each.running():  # the last process may have given way to one that was killed
                each.start()
        return sql(active) == [(len(rivals),)]

    eventually(each_has_one)
    codes = [process.popen.poll() for each in rivals for process, _ in each.started]
    assert set(codes) <= {None, 1, 3, -signal.SIGKILL}, codes
    for each in rivals:
        # A replaced process writes nothing until it registers again: all its successors may have been killed.
        written = registrations(sql, each.node_id)
        assert len(written) == len({registered_at for registered_at, _ in written}) >= 2, written
