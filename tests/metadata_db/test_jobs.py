"""The jobs of Amp's own database: their counts, and reads that fail without an effect on the fleet."""

from collections.abc import Callable, Iterator
from itertools import chain

import psycopg
import pytest
from sqlalchemy import Connection, func, select

from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    Jobs,
    JobsUnknown,
    MetadataDbUrl,
    Reader,
    clock_at,
    count_jobs,
    list_jobs,
    list_workers,
    read_jobs,
)
from tests.metadata_db import amp
from tests.metadata_db.amp_jobs import Scheduler

pytestmark = pytest.mark.slow

SILENT = {"active": 0.0, "stale": 20.0, "lost": 300.0, "forgotten": 200_000.0}


@pytest.fixture
def amps_database(empty_database: str) -> str:
    amp.migrate(empty_database, amp.TODAYS)
    for node_id, seconds in SILENT.items():
        amp.register(empty_database, amp.TODAYS, node_id, silent_for=seconds)
    for node_id in ("stopped", "failed"):
        amp.register(empty_database, amp.TODAYS, node_id)
    with amp.connect(empty_database) as connection:
        connection.execute(
            "UPDATE workers SET info = info || jsonb_build_object('stopped_at', now()) || "
            "CASE node_id WHEN 'failed' THEN jsonb '{\"failure\": \"exit code 7\"}' ELSE '{}' END "
            "WHERE node_id IN ('stopped', 'failed')"
        )
    return empty_database


@pytest.fixture
def scheduler(amps_database: str) -> Iterator[Scheduler]:
    with Scheduler(amps_database) as scheduler:
        yield scheduler


Read = Callable[[], Jobs]


def query_jobs(reader: Reader) -> Jobs | None:
    def read_now(connection: Connection) -> Jobs | None:
        now = connection.execute(select(func.clock_timestamp())).scalar_one()
        return read_jobs(connection, clock_at(now, DEFAULT_THRESHOLDS))

    return reader.query(read_now, 5)


@pytest.fixture
def reader(amps_database: str) -> Reader:
    return Reader(MetadataDbUrl.parse(amps_database), "test", connections=1, statement_timeout=5)


@pytest.fixture
def read(reader: Reader) -> Read:
    def read_known() -> Jobs:
        jobs = query_jobs(reader)
        assert jobs is not None
        return jobs

    return read_known


def test_without_jobs_every_count_is_zero(scheduler: Scheduler, read: Read) -> None:
    jobs = read()
    assert set(jobs.by_status) == {
        *("scheduled", "running", "stop_requested", "stopping", "error", "fatal", "other"),
    }
    assert set(jobs.by_status.values()) == {0}
    assert jobs.stranded == dict.fromkeys(("lost", "failed", "stopped", "forgotten", "missing"), 0)
    assert list(jobs.stranded_by_worker) == []
    assert (jobs.oldest_not_picked_up_age_seconds, jobs.last_fatal_timestamp) == (None, None)


def test_unfinished_jobs_are_counted_by_status_and_by_worker(scheduler: Scheduler, read: Read, reader: Reader) -> None:
    for status in ("RUNNING", "STOP_REQUESTED", "STOPPING", "ERROR", "COMPLETED", "STOPPED", "FATAL", "PAUSED"):
        scheduler.update(scheduler.schedule("active"), status)
    scheduler.schedule("active")
    jobs = read()
    assert jobs.by_status == {
        **dict.fromkeys(("scheduled", "running", "stop_requested", "stopping", "error"), 1),
        "fatal": 1,
        "other": 1,
    }
    assert sorted(chain.from_iterable(jobs.by_group), reverse=True)[:2] == [6, 0]
    assert reader.query(count_jobs, 5) == {"active": 6}
    assert jobs.unknown_statuses == {"PAUSED"}
    assert jobs.last_fatal_timestamp is not None


@pytest.mark.parametrize("status", ["SCHEDULED", "RUNNING", "ERROR"])
def test_jobs_of_workers_that_are_gone_are_stranded(scheduler: Scheduler, read: Read, status: str) -> None:
    for node_id in (*SILENT, "stopped", "failed", "never-registered"):
        scheduler.update(scheduler.schedule(node_id), status)
    jobs = read()
    assert jobs.stranded == {"lost": 1, "failed": 1, "stopped": 1, "forgotten": 1, "missing": 1}
    assert {(each.node_id, each.worker_state) for each in jobs.stranded_by_worker} == {
        *((state, state) for state in ("lost", "failed", "stopped", "forgotten")),
        ("never-registered", "missing"),
    }


@pytest.mark.parametrize("status", ["STOP_REQUESTED", "STOPPING", "COMPLETED", "STOPPED", "FATAL", "PAUSED"])
def test_jobs_that_do_not_have_to_move_are_not_stranded(scheduler: Scheduler, read: Read, status: str) -> None:
    scheduler.update(scheduler.schedule("lost"), status)
    jobs = read()
    assert set(jobs.stranded.values()) == {0}
    assert list(jobs.stranded_by_worker) == []


def test_the_worker_of_a_job_is_the_one_that_it_was_moved_to(scheduler: Scheduler, read: Read, reader: Reader) -> None:
    job = scheduler.schedule("lost")
    assert read().stranded["lost"] == 1
    scheduler.reschedule(job, "active")
    assert read().stranded["lost"] == 0
    assert reader.query(count_jobs, 5) == {"active": 1}


def test_at_most_ten_workers_are_named_those_with_the_most_stranded_jobs(scheduler: Scheduler, read: Read) -> None:
    for number in range(12):
        for _ in range(number + 1):
            scheduler.schedule(f"gone-{number:02}")
    jobs = read()
    assert [each.node_id for each in jobs.stranded_by_worker] == [f"gone-{number:02}" for number in range(11, 1, -1)]
    assert jobs.stranded["missing"] == sum(range(1, 13))


def test_of_workers_with_as_many_stranded_jobs_the_first_by_node_id_are_named(scheduler: Scheduler, read: Read) -> None:
    """Each time the same ones, so that their series go on."""
    for number in range(25):
        scheduler.schedule(f"gone-{number:02}")
    scheduler.schedule("gone-24")
    named = [(each.node_id, each.worker_state, each.jobs) for each in read().stranded_by_worker]
    assert named == [("gone-24", "missing", 2), *((f"gone-{number:02}", "missing", 1) for number in range(9))]


def test_a_job_that_an_active_worker_does_not_pick_up_has_an_age(scheduler: Scheduler, read: Read) -> None:
    scheduler.age(scheduler.schedule("active"), 300)
    scheduler.age(scheduler.schedule("active"), 100)
    scheduler.age(scheduler.schedule("lost"), 9000)
    running = scheduler.schedule("active")
    scheduler.update(running, "RUNNING")
    scheduler.age(running, 9000)
    age = read().oldest_not_picked_up_age_seconds
    assert age is not None
    assert 300 <= age < 400


def test_a_hostile_row_hides_no_other(scheduler: Scheduler, read: Read) -> None:
    job = scheduler.schedule("active")
    scheduler.schedule('"} 1\n<script>')
    scheduler.execute("UPDATE jobs_status SET updated_at = 'infinity' WHERE job_id = %s", job)
    scheduler.update(scheduler.schedule("lost"), "FATAL")
    scheduler.execute("UPDATE jobs_status SET updated_at = '-infinity' WHERE status = 'FATAL'")
    scheduler.update(scheduler.schedule("active"), "FATAL")
    last = read().last_fatal_timestamp
    future = scheduler.schedule("active")
    scheduler.update(future, "FATAL")
    scheduler.execute("UPDATE jobs_status SET updated_at = 'infinity' WHERE job_id = %s", future)
    jobs = read()
    assert jobs.by_status["scheduled"] == 2
    assert jobs.stranded["missing"] == 1
    assert last is not None
    assert jobs.last_fatal_timestamp == last


def test_the_jobs_of_one_worker_are_listed_with_their_datasets(scheduler: Scheduler, reader: Reader) -> None:
    first = scheduler.schedule("lost", "edge/blocks")
    second = scheduler.schedule("lost", None)
    scheduler.update(scheduler.schedule("lost"), "COMPLETED")
    scheduler.schedule("active")
    moved = scheduler.schedule("active", "edge/old")
    scheduler.reschedule(moved, "lost", "edge/logs")
    scheduler.update(moved, "RUNNING")
    listed = reader.query(lambda connection: list_jobs(connection, "lost"), 5) or []
    assert [(job["id"], job["status"], job["dataset"]) for job in listed] == [
        (first, "SCHEDULED", "edge/blocks"),
        (second, "SCHEDULED", None),
        (moved, "RUNNING", "edge/logs"),
    ]
    page = reader.query(lambda connection: list_jobs(connection, "lost", after=first, limit=1), 5) or []
    assert [job["id"] for job in page] == [second]
    finished = reader.query(lambda connection: list_jobs(connection, "lost", statuses=["COMPLETED"]), 5)
    assert finished is not None
    assert len(finished) == 1


def test_jobs_are_counted_for_some_workers_or_for_all(scheduler: Scheduler, reader: Reader) -> None:
    for node_id in ("lost", "lost", "active", "never-registered"):
        scheduler.schedule(node_id)
    assert reader.query(count_jobs, 5) == {"lost": 2, "active": 1, "never-registered": 1}
    assert reader.query(lambda connection: count_jobs(connection, ["active", "stale"]), 5) == {"active": 1}


def test_a_database_that_is_not_amps_own_has_no_jobs(database: str) -> None:
    """In another database, a table of that name can belong to any application."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE jobs_status (job_id bigint, node_id text, status text, updated_at timestamptz)"
        )
    reader = Reader(MetadataDbUrl.parse(database), "test", connections=1, statement_timeout=5)
    assert query_jobs(reader) is None
    assert reader.query(count_jobs, 5) is None
    assert reader.query(lambda connection: list_jobs(connection, "w"), 5) is None


def unknown_because(read: Read) -> str:
    with pytest.raises(JobsUnknown) as caught:
        read()
    return str(caught.value)


def test_jobs_are_unknown_where_there_are_no_such_tables(scheduler: Scheduler, read: Read) -> None:
    scheduler.execute("DROP TABLE jobs_status")
    assert "no table jobs_status" in unknown_because(read)


def test_jobs_are_unknown_without_a_required_column(scheduler: Scheduler, read: Read) -> None:
    scheduler.execute("ALTER TABLE jobs_status RENAME status TO phase")
    assert "lacks a column" in unknown_because(read)


def test_jobs_are_unknown_without_the_right_to_read_them(scheduler: Scheduler, amps_database: str) -> None:
    scheduler.execute("DROP ROLE IF EXISTS no_jobs_reader")
    scheduler.execute("CREATE ROLE no_jobs_reader LOGIN")
    scheduler.execute("GRANT SELECT ON workers TO no_jobs_reader")
    url = amps_database.replace("postgres@", "no_jobs_reader@")
    reader = Reader(MetadataDbUrl.parse(url), "test", connections=1, statement_timeout=5)
    with pytest.raises(JobsUnknown, match="may not read"):
        reader.query(count_jobs, 5)
    scheduler.execute("GRANT SELECT (job_id, node_id, status, updated_at) ON jobs_status TO no_jobs_reader")
    assert reader.query(count_jobs, 5) == {}


def test_a_lock_on_the_jobs_leaves_the_fleet_readable_in_the_same_transaction(
    scheduler: Scheduler, reader: Reader, amps_database: str
) -> None:
    scheduler.schedule("active")
    with psycopg.connect(amps_database) as migration:
        migration.execute("LOCK TABLE jobs_status IN ACCESS EXCLUSIVE MODE")

        def read_both(connection: Connection) -> int:
            with pytest.raises(JobsUnknown):
                count_jobs(connection)
            return len(list_workers(connection, DEFAULT_THRESHOLDS))

        assert reader.query(read_both, 5) == len(SILENT) + 2
    assert reader.query(count_jobs, 5) == {"active": 1}
