"""A worker of this project in a fleet of Amp's own: it joins only with the flag, and shares no node id."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from amp_workers import AmpDatabaseRefused, Worker
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.metadata_db import amp
from tests.pgbouncer import start_pgbouncer
from tests.processes import Process, Processes, eventually
from tests.relay import Relay, socket_of

pytestmark = pytest.mark.slow

PROGRAM = ["--", "sh", "-c", "echo program runs; exec sleep 600"]

Start = Callable[..., Process]


def name_of(database: str) -> str:
    return database.rpartition("?")[0].rpartition("/")[2]


@pytest.fixture
def amps(empty_database: str) -> str:
    """The URL of a database of Amp's own, with today's schema."""
    amp.migrate(empty_database, amp.TODAYS)
    return empty_database


@pytest.fixture
def relay(postgres: EmbeddedPostgres) -> Iterator[Relay]:
    made = Relay(socket_of(postgres))
    yield made
    made.close()


@pytest.fixture
def start(processes: Processes, amps: str) -> Start:
    """Start a worker with a program, and wait until it has registered as 'w'."""

    def start_worker(url: str = amps) -> Process:
        worker = processes.ampd("worker", "--node-id=w", "--join-amp-fleet", *PROGRAM, database=url)
        worker.says("program runs")
        return worker

    return start_worker


def refused_process(url: str) -> None:
    """A process of Amp's that finds the lock held: by then it has replaced the registration, and exits."""
    with amp.AmpsWorker(url, amp.TODAYS, "w") as process:
        assert not process.start()


def version(url: str) -> str:
    with psycopg.connect(url) as connection:
        [(found,)] = connection.execute("SELECT info ->> 'version' FROM workers").fetchall()
    return str(found)


def is_our_row_again(worker: Process, url: str) -> None:
    eventually(lambda: version(url) != amp.BUILD["version"])
    assert worker.popen.poll() is None, worker.output
    assert len(worker.descendants()) == 2, worker.output


def stops(worker: Process, url: str) -> None:
    """Assert that the worker records its stop and exits with the code of SIGTERM from the program."""
    assert worker.stop() == 128 + signal.SIGTERM, worker.output
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT info ? 'stopped_at' FROM workers").fetchall() == [(True,)]


@pytest.mark.parametrize("age", [amp.WITH_ZONES, amp.TODAYS])
def test_two_workers_of_either_kind_never_share_a_node_id(empty_database: str, processes: Processes, age: int) -> None:
    amp.migrate(empty_database, age)
    ours = ("worker", "--node-id=w", "--join-amp-fleet")
    with amp.AmpsWorker(empty_database, age, "w") as amps:
        assert amps.start()
        refused = processes.ampd(*ours, database=empty_database)

        def beat_until_refused() -> bool:
            amps.beat()
            return refused.popen.poll() is not None

        eventually(beat_until_refused)
        assert refused.wait() == 1
        assert "node id 'w' is held by another worker process" in refused.output
    worker = processes.ampd(*ours, database=empty_database)
    worker.says("registered as 'w'")
    with amp.AmpsWorker(empty_database, age, "w") as amps:
        assert not amps.lock()
        assert worker.stop() == 0
        eventually(amps.lock)


def test_processes_of_amps_that_are_refused_end_nothing(start: Start, amps: str) -> None:
    """A service manager restarts such a process again and again."""
    worker = start()
    for _ in range(3):
        refused_process(amps)
        is_our_row_again(worker, amps)
    assert worker.output.count("and does not hold its lock: registered again") == 1
    # A refused process just before the stop is recorded changes nothing either.
    refused_process(amps)
    stops(worker, amps)


def test_a_process_of_amps_that_is_refused_while_the_worker_is_frozen_ends_nothing(start: Start, amps: str) -> None:
    worker = start()
    worker.freeze()
    refused_process(amps)
    worker.signal(signal.SIGCONT)
    is_our_row_again(worker, amps)
    stops(worker, amps)


def test_processes_of_amps_that_are_refused_in_an_outage_end_nothing(start: Start, amps: str, relay: Relay) -> None:
    """PostgreSQL has not noticed the outage: the old session holds the lock while the worker connects again."""
    worker = start(f"postgresql://postgres@127.0.0.1:{relay.port}/{name_of(amps)}")
    relay.open.clear()
    worker.says("cannot send heartbeats")
    for _ in range(3):
        refused_process(amps)
    relay.forsake()
    is_our_row_again(worker, amps)
    worker.says("'w' sends heartbeats again after")
    stops(worker, amps)


def test_a_process_of_amps_that_gets_the_lock_takes_over(start: Start, amps: str) -> None:
    worker = start()
    with amp.AmpsWorker(amps, amp.TODAYS, "w") as process, psycopg.connect(amps, autocommit=True) as connection:
        worker.freeze()
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'"
        )
        eventually(process.start)
        worker.signal(signal.SIGCONT)
        assert worker.wait() == 3
    assert "node id 'w' was taken over by another worker process" in worker.output
    assert version(amps) == amp.BUILD["version"]


def test_through_a_pooler_another_registration_is_a_takeover(
    start: Start, amps: str, processes: Processes, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """No process holds a lock that would show that the other process was refused."""
    worker = start(f"postgresql://postgres@127.0.0.1:{start_pgbouncer(processes, postgres, tmp_path)}/{name_of(amps)}")
    with amp.AmpsWorker(amps, amp.TODAYS, "w") as process:
        assert process.start()
        assert worker.wait() == 3


@pytest.mark.parametrize("age", [amp.TODAYS, None], ids=["with workers", "with jobs alone"])
def test_amps_own_database_is_refused_unless_the_worker_is_to_join(
    processes: Processes, empty_database: str, age: int | None
) -> None:
    if age is None:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            for table in ("_sqlx_migrations", "jobs"):
                connection.execute(f"CREATE TABLE {table} (id int)".encode())
    else:
        amp.migrate(empty_database, age)
    worker = processes.ampd("worker", "--node-id=w", *PROGRAM, database=empty_database)
    assert worker.wait() == 1
    assert "Amp's scheduler assigns jobs to every worker with a fresh heartbeat" in worker.output
    assert "--join-amp-fleet" in worker.output
    assert "program runs" not in worker.output
    assert worker.output.count("\n") == 1
    with pytest.raises(AmpDatabaseRefused, match="join_amp_fleet=True"):
        Worker(node_id="w", metadata_db_url=empty_database).__enter__()


def test_an_embedded_worker_joins_amps_fleet_if_it_is_to(amps: str) -> None:
    with Worker(node_id="w", metadata_db_url=amps, join_amp_fleet=True) as worker:
        assert not worker.fenced
        assert version(amps) != amp.BUILD["version"]


def test_a_silent_worker_of_amps_under_a_superuser_is_warned_of_once(
    processes: Processes, amps: str, postgres: EmbeddedPostgres
) -> None:
    """A role with pg_signal_backend cannot end the session of a superuser."""
    with psycopg.connect(amps, autocommit=True) as connection, contextlib.ExitStack() as stack:
        connection.execute("CREATE ROLE other LOGIN")
        stack.callback(connection.execute, "DROP ROLE other")
        stack.callback(connection.execute, "DROP OWNED BY other")
        stack.callback(processes.end)
        connection.execute("GRANT ALL ON workers TO other")
        connection.execute("GRANT pg_signal_backend TO other")
        with amp.AmpsWorker(amps, amp.TODAYS, "w") as silent:
            assert silent.start()
            url = amps.replace("postgres@", "other@")
            worker = processes.ampd("worker", "--node-id=w", "--join-amp-fleet", database=url)
            worker.says("of superuser postgres holds the lock of node id 'w'")
            sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ampd worker w'"
            seen = set[object]()

            def has_tried_again() -> bool:
                seen.update(connection.execute(sessions).fetchall())
                return len(seen) >= 3

            eventually(has_tried_again)
            assert worker.output.count("level=warn") == 1, worker.output
            assert "run as a superuser: SELECT pg_terminate_backend(" in worker.output
            assert "GRANT" not in worker.output
        worker.says("registered as 'w'")
        assert worker.stop() == 0
