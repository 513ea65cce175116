"""`GET /fleet`: the counts of the whole fleet."""

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from flask.testing import FlaskClient

from amp_workers.metadata_db import Thresholds
from tests.admin.conftest import Api
from tests.admin.test_api import error
from tests.conftest import Insert
from tests.metadata_db import amp
from tests.metadata_db.amp_jobs import Scheduler
from tests.processes import eventually

Sql = Callable[..., list[Any]]


def fleet(api: FlaskClient) -> dict[str, Any]:
    answer = api.get("/fleet")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = json.loads(answer.text)
    return found


def test_an_empty_fleet_has_every_state(api: FlaskClient) -> None:
    counts = fleet(api)
    assert set(counts["workers"].values()) == {0}
    assert {"active", "stale", "lost", "stopped", "forgotten"} <= set(counts["workers"])
    assert list(counts["workers"])[-3:] == ["active", "stopped", "forgotten"]
    assert (counts["versions"], counts["oldest_heartbeat_age_seconds"]) == ({}, None)


def test_workers_are_counted_by_state_and_those_that_run_by_version(api: FlaskClient, insert_worker: Insert) -> None:
    insert_worker("active-1", 0, '{"version": "v1"}')
    insert_worker("active-2", 0, '{"version": "v2"}')
    insert_worker("stale", 30, '{"version": "v2"}')
    insert_worker("stale-2", 30, "[]")
    insert_worker("long", 30, json.dumps({"version": "v" * 1_000}))
    insert_worker("lost", 300, '{"version": "v3"}')
    insert_worker("stopped", 400, '{"version": "v3", "stopped_at": "2999-01-01T00:00:00Z"}')
    insert_worker("forgotten", 1e6)
    counts = fleet(api)
    assert {state: number for state, number in counts["workers"].items() if number} == {
        "lost": 1,
        "stale": 3,
        "active": 2,
        "stopped": 1,
        "forgotten": 1,
    }
    assert list(counts["versions"].items()) == [("v2", 2), ("unknown", 1), ("v1", 1), ("v" * 200, 1)]
    assert 300 <= counts["oldest_heartbeat_age_seconds"] < 330


def test_the_heartbeat_that_is_furthest_from_now_may_lie_in_the_future(api: FlaskClient, insert_worker: Insert) -> None:
    insert_worker("a", 30)
    insert_worker("b", -900)
    assert -900 <= fleet(api)["oldest_heartbeat_age_seconds"] < -870


def test_no_row_hides_another(api: FlaskClient, insert_worker: Insert, sql: Sql) -> None:
    insert_worker("w")
    for number, moment in enumerate(("infinity", "-infinity", "294276-01-01", "4713-01-01 BC")):
        insert_worker(f"odd-{number}", info='{"version": ["v"], "stopped_at": null}' if number else '"x"')
        sql("UPDATE workers SET heartbeat_at = %s::timestamptz WHERE node_id = %s", moment, f"odd-{number}")
    assert sum(fleet(api)["workers"].values()) == 5


def test_the_thresholds_are_in_the_answer_and_in_a_metric(make_api: Api, database: str) -> None:
    api = make_api(database, thresholds=Thresholds(2.5, 30, 3600))
    assert fleet(api)["thresholds"] == {
        "stale_after_seconds": 2.5,
        "lost_after_seconds": 30.0,
        "forget_after_seconds": 3600.0,
    }
    found = dict(re.findall(r'amp_admin_threshold_seconds\{threshold="(\w+)"\} (\S+)', api.get("/metrics").text))
    assert found == {"stale": "2.5", "lost": "30.0", "forget": "3600.0"}


def test_it_takes_no_parameter(api_without_database: FlaskClient) -> None:
    assert error(api_without_database.get("/fleet?state=lost")) == (400, "INVALID_PARAMETER")
    assert error(api_without_database.get("/fleet")) == (503, "METADATA_DB_UNAVAILABLE")


def test_requests_that_arrive_while_a_query_runs_share_it(make_api: Api, database: str) -> None:
    api = make_api(database)
    fleet(api)
    statuses: list[int] = []
    with psycopg.connect(database) as blocker, psycopg.connect(database, autocommit=True) as observer:
        blocker.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")

        def ask() -> None:
            statuses.append(make_client().get("/fleet").status_code)

        make_client = api.application.test_client
        threads = [threading.Thread(target=ask) for _ in range(8)]
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'workers'::regclass"
        threads[0].start()
        eventually(lambda: observer.execute(waiting).fetchone() == (1,))
        for thread in threads[1:]:
            thread.start()
        time.sleep(0.3)  # so that each of their own queries would have started
        assert observer.execute(waiting).fetchone() == (1,)
        blocker.rollback()
        for thread in threads:
            thread.join(10)
    assert statuses == [200] * 8


def test_jobs_of_amps_own_database_are_counted_and_never_hide_the_workers(make_api: Api, empty_database: str) -> None:
    amp.migrate(empty_database, amp.TODAYS)
    amp.register(empty_database, amp.TODAYS, "active")
    amp.register(empty_database, amp.TODAYS, "lost", silent_for=300)
    with Scheduler(empty_database) as scheduler:
        scheduler.update(scheduler.schedule("active"), "RUNNING")
        scheduler.update(scheduler.schedule("lost"), "RUNNING")
        scheduler.age(scheduler.schedule("active"), 60)
    api = make_api(empty_database)
    jobs = fleet(api)["jobs"]
    assert (jobs["status"]["running"], jobs["status"]["scheduled"], jobs["stranded"]["lost"]) == (2, 1, 1)
    assert 60 <= jobs["oldest_not_picked_up_age_seconds"] < 90
    with amp.connect(empty_database) as connection:
        connection.execute("DROP TABLE jobs_status CASCADE")
    counts = fleet(api)
    assert (counts["jobs"], counts["workers"]["lost"]) == (None, 1)
