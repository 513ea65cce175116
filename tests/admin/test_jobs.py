"""`GET /workers/{id}/jobs`, and the number of jobs in each answer about workers."""

from collections.abc import Iterator

import psycopg
import pytest
from flask.testing import FlaskClient

from tests.admin.conftest import Api
from tests.admin.test_api import error
from tests.metadata_db import amp
from tests.metadata_db.amp_jobs import Scheduler

pytestmark = pytest.mark.slow


@pytest.fixture
def amps_database(empty_database: str) -> str:
    amp.migrate(empty_database, amp.TODAYS)
    for node_id in ("busy", "idle"):
        amp.register(empty_database, amp.TODAYS, node_id)
    return empty_database


@pytest.fixture
def scheduler(amps_database: str) -> Iterator[Scheduler]:
    with Scheduler(amps_database) as scheduler:
        yield scheduler


@pytest.fixture
def api(make_api: Api, amps_database: str) -> FlaskClient:
    return make_api(amps_database)


def test_the_unfinished_jobs_of_a_worker_are_listed_page_by_page(api: FlaskClient, scheduler: Scheduler) -> None:
    jobs = [scheduler.schedule("busy", f"edge/{number}") for number in range(5)]
    scheduler.update(jobs[1], "RUNNING")
    scheduler.update(jobs[3], "COMPLETED")
    everything = api.get("/workers/busy/jobs").json
    assert everything is not None
    assert [(each["id"], each["status"], each["dataset"]) for each in everything["jobs"]] == [
        (jobs[0], "SCHEDULED", "edge/0"),
        (jobs[1], "RUNNING", "edge/1"),
        (jobs[2], "SCHEDULED", "edge/2"),
        (jobs[4], "SCHEDULED", "edge/4"),
    ]
    first = api.get("/workers/busy/jobs?limit=3").json
    assert first is not None
    second = api.get(f"/workers/busy/jobs?limit=3&after={first['next']}").json
    assert second is not None
    assert first["jobs"] + second["jobs"] == everything["jobs"]
    assert (len(first["jobs"]), "next" in second) == (3, False)


def test_jobs_are_selected_by_status(api: FlaskClient, scheduler: Scheduler) -> None:
    scheduler.schedule("busy")
    for status in ("COMPLETED", "FATAL"):
        scheduler.update(scheduler.schedule("busy"), status)
    found = api.get("/workers/busy/jobs?status=COMPLETED,FATAL").json
    assert found is not None
    assert [each["status"] for each in found["jobs"]] == ["COMPLETED", "FATAL"]


@pytest.mark.parametrize(
    "query", ["?status=", "?status=running", "?limit=0", "?after=x", "?after=-1", "?after=" + "9" * 40, "?state=lost"]
)
def test_a_bad_parameter_is_refused(api: FlaskClient, scheduler: Scheduler, query: str) -> None:
    assert error(api.get(f"/workers/busy/jobs{query}")) == (400, "INVALID_PARAMETER")


def test_a_node_id_that_only_jobs_know_has_jobs(api: FlaskClient, scheduler: Scheduler) -> None:
    job = scheduler.schedule("gone")
    found = api.get("/workers/gone/jobs").json
    assert found is not None
    assert [each["id"] for each in found["jobs"]] == [job]
    assert api.get("/workers/idle/jobs").json == {"jobs": []}
    assert error(api.get("/workers/unknown/jobs")) == (404, "WORKER_NOT_FOUND")
    for query in ("?status=ERROR", f"?after={job}"):
        assert api.get(f"/workers/gone/jobs{query}").json == {"jobs": []}
    scheduler.update(job, "COMPLETED")
    assert api.get("/workers/gone/jobs").json == {"jobs": []}


@pytest.mark.parametrize(
    "path", ["/workers/busy%2Fjobs", "/workers/a/b/jobs", "/workers//jobs", "/workers/1/jobs", "/workers/busy/jobs/"]
)
def test_what_is_not_one_node_id_is_invalid(api: FlaskClient, scheduler: Scheduler, path: str) -> None:
    scheduler.schedule("busy")
    assert error(api.get(path)) == (400, "INVALID_WORKER_ID")


def test_a_worker_may_be_named_jobs(api: FlaskClient, amps_database: str, scheduler: Scheduler) -> None:
    amp.register(amps_database, amp.TODAYS, "jobs")
    assert api.get("/workers/jobs").status_code == 200
    assert api.get("/workers/jobs/jobs").json == {"jobs": []}


def test_every_answer_about_workers_counts_their_jobs(api: FlaskClient, scheduler: Scheduler) -> None:
    for _ in range(3):
        scheduler.schedule("busy")
    first = api.get("/workers")
    assert first.json is not None
    assert {each["node_id"]: each["jobs"] for each in first.json["workers"]} == {"busy": 3, "idle": 0}
    page = api.get("/workers?limit=1").json
    assert page is not None
    assert [each["jobs"] for each in page["workers"]] == [3]
    one = api.get("/workers/busy").json
    assert one is not None
    assert one["jobs"] == 3
    scheduler.schedule("idle")
    assert api.get("/workers", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_jobs_that_cannot_be_read_are_null_and_cost_one_log_line(
    api: FlaskClient, scheduler: Scheduler, amps_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule("busy")
    with psycopg.connect(amps_database) as migration:
        migration.execute("LOCK TABLE jobs_status IN ACCESS EXCLUSIVE MODE")
        listed = api.get("/workers").json
        assert listed is not None
        assert [each["jobs"] for each in listed["workers"]] == [None, None]
        assert api.get("/workers/busy/jobs").json == {"jobs": None}
        assert api.get("/workers/unknown/jobs").json == {"jobs": None}
        fleet = api.get("/fleet").json
        assert fleet is not None
        assert (fleet["workers"]["active"], fleet["jobs"]) == (2, None)
    assert len([line for line in caplog.messages if "jobs are unknown" in line]) == 1


def test_the_missing_right_to_read_events_is_logged_once(
    make_api: Api, scheduler: Scheduler, amps_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.execute("DROP ROLE IF EXISTS no_events_reader")
    scheduler.execute("CREATE ROLE no_events_reader LOGIN")
    scheduler.execute("GRANT SELECT ON workers, jobs, jobs_status TO no_events_reader")
    api = make_api(amps_database.replace("postgres@", "no_events_reader@"))
    for _ in range(2):
        assert api.get("/workers/busy/jobs").json == {"jobs": None}
        listed = api.get("/workers").json
        assert listed is not None
        assert [each["jobs"] for each in listed["workers"]] == [0, 0]
    (line,) = [line for line in caplog.messages if "jobs are" in line]
    assert line.startswith("jobs are unknown: this role may not read Amp's table job_events")


def test_a_database_that_is_not_amps_own_has_no_jobs(make_api: Api, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) VALUES ('w', now(), now(), now())"
        )
    api = make_api(database)
    assert api.get("/workers/w/jobs").json == {"jobs": None}
    assert error(api.get("/workers/unknown/jobs")) == (404, "WORKER_NOT_FOUND")
