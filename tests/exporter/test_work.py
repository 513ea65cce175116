"""The metrics of the work: failures, progress and jobs."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from tests.conftest import Insert
from tests.exporter.test_metrics import ODD, client, samples, values
from tests.metadata_db import amp
from tests.metadata_db.amp_jobs import Scheduler

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]

FUTURE = "2999-01-15T17:20:15Z"


@pytest.fixture
def exporter(database: str) -> FlaskClient:
    return client(database)


@pytest.fixture
def scheduler(database: str) -> Iterator[Scheduler]:
    amp.add_jobs(database)
    with Scheduler(database) as scheduler:
        yield scheduler


def info(**fields: object) -> str:
    return json.dumps(fields)


def test_a_failed_worker_has_its_reason_and_its_exit_code(exporter: FlaskClient, insert_worker: Insert) -> None:
    insert_worker("failed", info=info(stopped_at=FUTURE, failure="exit code 7", exit_code=7))
    insert_worker("raised", info=info(stopped_at=FUTURE, failure=ODD))
    insert_worker("stopped", info=info(stopped_at=FUTURE, exit_code=0))
    found = samples(exporter.get("/metrics").text)
    reasons = {
        (dict(labels)["node_id"], dict(labels)["reason"]) for name, labels in found if name == "amp_worker_failed"
    }
    assert reasons == {("failed", "exit code 7"), ("raised", ODD)}
    assert values(found, "amp_worker_exit_code", "node_id") == {"failed": 7, "stopped": 0}
    assert set(values(found, "amp_worker_stopped_timestamp_seconds", "node_id")) == {"failed", "raised", "stopped"}
    assert values(found, "amp_worker_heartbeat_age_seconds", "node_id") == {}
    assert found["amp_fleet_heartbeat_age_seconds_gcount", ()] == 0


def test_a_failure_is_recent_for_an_hour(exporter: FlaskClient, sql: Sql, insert_worker: Insert) -> None:
    insert_worker("old", info=info(failure="exit code 7"))
    insert_worker("new", info=info(failure="exit code 7"))
    insert_worker("future", info=info(failure="exit code 7"))
    sql(
        "UPDATE workers SET info = info || jsonb_build_object('stopped_at', now() - "
        "make_interval(secs => CASE node_id WHEN 'old' THEN 3700 WHEN 'new' THEN 1800 ELSE -1e9 END))"
    )
    found = samples(exporter.get("/metrics").text)
    assert values(found, "amp_workers", "state")["failed"] == 3
    assert found["amp_workers_failed_recently", ()] == 1


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize("collect", ["all", "unhealthy"])
def test_progress_is_published_with_its_promise_and_its_age(
    database: str, collect: str, sql: Sql, insert_worker: Insert
) -> None:
    for number, age in enumerate((None, 3.0, None, 700.0, -2.5)):
        promise = {"watchdog_seconds": 600} if number in (2, 3) else {}
        insert_worker(f"w{number}", age=30.0 + number, info=json.dumps(promise))
        if age is not None:
            sql(
                "UPDATE workers SET info = info || jsonb_build_object('progress', 'block 7', 'progress_at', "
                "clock_timestamp() - make_interval(secs => %s)) WHERE node_id = %s",
                age,
                f"w{number}",
            )
    found = samples(client(database, collect).get("/metrics").text)
    assert values(found, "amp_worker_progress_age_seconds", "node_id") == {"w1": 3.0, "w3": 700.0, "w4": -2.5}
    assert values(found, "amp_worker_watchdog_seconds", "node_id") == {"w2": 600, "w3": 600}
    assert "block 7" not in client(database).get("/metrics").text


def test_a_stuck_worker_is_alive_and_unhealthy(database: str, insert_worker: Insert) -> None:
    insert_worker("active")
    insert_worker("stuck", info=info(watchdog_seconds=10, progress_at="2025-01-15T17:20:15Z", version="v1"))
    for collect in ("all", "unhealthy"):
        found = samples(client(database, collect).get("/metrics").text)
        assert values(found, "amp_worker_stuck", "node_id") == {"stuck": 1}
        assert values(found, "amp_workers", "state")["stuck"] == 1
        assert values(found, "amp_workers_by_version", "version")["v1"] == 1
        assert found["amp_fleet_heartbeat_age_seconds_gcount", ()] == 2


def test_jobs_are_published_on_amps_own_database(
    exporter: FlaskClient, scheduler: Scheduler, insert_worker: Insert
) -> None:
    insert_worker("active")
    insert_worker("idle")
    insert_worker("lost", 600.0)
    insert_worker("failed", info=info(stopped_at=FUTURE, failure="exit code 7"))
    scheduler.age(scheduler.schedule("active"), 300)
    for node_id in ("lost", "lost", "failed", "never-registered"):
        scheduler.update(scheduler.schedule(node_id), "RUNNING")
    scheduler.update(scheduler.schedule("active"), "FATAL")
    found = samples(exporter.get("/metrics").text)
    assert values(found, "amp_jobs", "status") == {
        "scheduled": 1,
        "running": 4,
        "stop_requested": 0,
        "stopping": 0,
        "error": 0,
        "fatal": 1,
        "other": 0,
    }
    assert values(found, "amp_jobs_stranded", "worker_state") == {
        "lost": 2,
        "failed": 1,
        "stopped": 0,
        "forgotten": 0,
        "missing": 1,
    }
    assert values(found, "amp_jobs_stranded_by_worker", "node_id") == {"lost": 2, "failed": 1, "never-registered": 1}
    assert values(found, "amp_worker_jobs", "node_id") == {"active": 1, "idle": 0, "lost": 2, "failed": 1}
    assert 300 <= found["amp_jobs_oldest_not_picked_up_age_seconds", ()] < 400
    assert ("amp_jobs_last_fatal_timestamp_seconds", ()) in found


@pytest.mark.parametrize("collect", ["all", "unhealthy", "none"])
def test_jobs_follow_every_change_of_the_fleet_between_two_scrapes(
    database: str, collect: str, scheduler: Scheduler, sql: Sql, insert_worker: Insert
) -> None:
    """The exporter keeps the node ids of a group as long as its fingerprint stays the same."""
    exporter = client(database, collect)
    for node_id in ("worker", "other"):
        insert_worker(node_id)
    insert_worker("long-gone", 200_000.0)
    moving = scheduler.schedule("worker")

    def stranded() -> dict[str, float]:
        found = samples(exporter.get("/metrics").text)
        return {state: jobs for state, jobs in values(found, "amp_jobs_stranded", "worker_state").items() if jobs}

    assert stranded() == {}
    scheduler.reschedule(moving, "new")
    assert stranded() == {"missing": 1}
    insert_worker("new")
    assert stranded() == {}
    sql("UPDATE workers SET heartbeat_at = now() - interval '10 min' WHERE node_id = 'new'")
    assert stranded() == {"lost": 1}
    sql("UPDATE workers SET heartbeat_at = now() - interval '3 days' WHERE node_id = 'new'")
    assert stranded() == {"forgotten": 1}
    sql("DELETE FROM workers WHERE node_id = 'new'")
    assert stranded() == {"missing": 1}
    sql("UPDATE workers SET node_id = 'new' WHERE node_id = 'long-gone'")
    assert stranded() == {"forgotten": 1}
    sql("UPDATE workers SET node_id = 'renamed' WHERE node_id = 'new'")
    assert stranded() == {"missing": 1}
    sql("UPDATE workers SET node_id = 'new' WHERE node_id = 'other'")
    assert stranded() == {}


def test_the_jobs_of_a_worker_follow_the_jobs_alone(
    exporter: FlaskClient, scheduler: Scheduler, insert_worker: Insert
) -> None:
    for number in range(3):
        insert_worker(f"w{number}")

    def jobs() -> dict[str, float]:
        return values(samples(exporter.get("/metrics").text), "amp_worker_jobs", "node_id")

    first, second = scheduler.schedule("w0"), scheduler.schedule("w1")
    assert jobs() == {"w0": 1, "w1": 1, "w2": 0}
    scheduler.reschedule(first, "w1")
    assert jobs() == {"w0": 0, "w1": 2, "w2": 0}
    scheduler.update(second, "COMPLETED")
    assert jobs() == {"w0": 0, "w1": 1, "w2": 0}


def test_jobs_that_cannot_be_read_are_absent_and_cost_one_log_line(
    exporter: FlaskClient, scheduler: Scheduler, database: str, insert_worker: Insert, caplog: pytest.LogCaptureFixture
) -> None:
    insert_worker("active")
    scheduler.schedule("active")
    with psycopg.connect(database) as migration:
        migration.execute("LOCK TABLE jobs_status IN ACCESS EXCLUSIVE MODE")
        for _ in range(3):
            found = samples(exporter.get("/metrics").text)
            assert found["amp_metadata_db_up", ()] == 1
            assert values(found, "amp_workers", "state")["active"] == 1
            assert not [name for name, _ in found if "jobs" in name]
    assert values(samples(exporter.get("/metrics").text), "amp_worker_jobs", "node_id") == {"active": 1}
    lines = [record.getMessage() for record in caplog.records if "jobs are" in record.getMessage()]
    assert len(lines) == 2, lines


@pytest.mark.parametrize(
    ("trouble", "remedy"),
    [
        ("ALTER TABLE jobs_status RENAME TO gone", "ALTER TABLE gone RENAME TO jobs_status"),
        ("REVOKE SELECT ON jobs_status FROM jobs_observer", "GRANT SELECT ON jobs_status TO jobs_observer"),
    ],
    ids=["no table", "no right"],
)
def test_jobs_without_their_table_or_the_right_to_read_it_cost_one_log_line(
    scheduler: Scheduler,
    database: str,
    insert_worker: Insert,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
    remedy: str,
) -> None:
    insert_worker("active")
    scheduler.schedule("active")
    scheduler.execute("DROP ROLE IF EXISTS jobs_observer")
    scheduler.execute("CREATE ROLE jobs_observer LOGIN")
    try:
        scheduler.execute("GRANT SELECT ON workers, jobs_status, job_events TO jobs_observer")
        exporter = client(database.replace("postgres@", "jobs_observer@"))
        scheduler.execute(trouble)
        for _ in range(3):
            found = samples(exporter.get("/metrics").text)
            assert values(found, "amp_workers", "state")["active"] == 1
            assert not [name for name, _ in found if "jobs" in name]
        scheduler.execute(remedy)
        assert values(samples(exporter.get("/metrics").text), "amp_worker_jobs", "node_id") == {"active": 1}
    finally:
        scheduler.execute("DROP OWNED BY jobs_observer")
        scheduler.execute("DROP ROLE jobs_observer")
    lines = [record.getMessage() for record in caplog.records if "jobs are" in record.getMessage()]
    assert len(lines) == 2, lines


def test_an_unknown_status_counts_as_other_and_is_logged_once(
    exporter: FlaskClient, scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.update(scheduler.schedule("active"), "PAUSED")
    for _ in range(3):
        assert values(samples(exporter.get("/metrics").text), "amp_jobs", "status")["other"] == 1
    assert len([record for record in caplog.records if "PAUSED" in record.getMessage()]) == 1
