"""`DELETE /workers/{id}`: authorization, states, and concurrent heartbeats."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from tests.admin.conftest import Api
from tests.admin.test_api import error
from tests.clusters import own_postgres
from tests.conftest import Insert
from tests.processes import eventually

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]

# In the test's own database: Admin APIs of other tests may have sessions in other databases of this server.
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND query LIKE '%%DELETE FROM workers%%'"
)
SESSIONS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ampd admin' "
    "ORDER BY pid"
)


def remaining(sql: Sql) -> list[str]:
    return [row[0] for row in sql("SELECT node_id FROM workers ORDER BY id")]


@pytest.mark.parametrize(
    ("age", "info"),
    [(61, "{}"), (1e6, "{}"), (0, '{"stopped_at": "2999-01-01T00:00:00Z"}'), (0, '{"stopped_at": "2001-01-01"}')],
    ids=["lost", "forgotten", "stopped", "stopped and forgotten"],
)
def test_a_lost_worker_is_deleted(
    operator: FlaskClient, sql: Sql, insert_worker: Insert, caplog: pytest.LogCaptureFixture, age: float, info: str
) -> None:
    insert_worker("w", age, info)
    insert_worker("other", age, info)
    with caplog.at_level(logging.INFO, "amp_workers.admin"):
        response = operator.delete("/workers/w")
    assert (response.status_code, response.data) == (204, b"")
    assert remaining(sql) == ["other"]
    reported = [record.getMessage() for record in caplog.records if record.name == "amp_workers.admin"]
    assert len(reported) == 1
    assert "'w'" in reported[0]
    assert "'ann'" in reported[0]
    assert error(operator.delete("/workers/w")) == (404, "WORKER_NOT_FOUND")
    assert error(operator.get("/workers/w")) == (404, "WORKER_NOT_FOUND")


@pytest.mark.parametrize(("age", "state"), [(0, "active"), (30, "stale"), (-30, "stale")])
def test_an_active_worker_is_not_deleted(
    operator: FlaskClient, sql: Sql, insert_worker: Insert, age: float, state: str
) -> None:
    insert_worker("w", age)
    response = operator.delete("/workers/w")
    assert error(response) == (409, "WORKER_ALIVE")
    assert f"is {state}" in response.text
    assert remaining(sql) == ["w"]


def test_a_worker_that_another_table_references_is_not_deleted(
    operator: FlaskClient, sql: Sql, insert_worker: Insert
) -> None:
    insert_worker("w", 300)
    sql("CREATE TABLE jobs (id int, node_id text NOT NULL REFERENCES workers (node_id))")
    sql("INSERT INTO jobs VALUES (1, 'w')")
    response = operator.delete("/workers/w")
    assert error(response) == (409, "WORKER_IN_USE")
    assert "jobs" in response.text
    assert remaining(sql) == ["w"]
    sql("DELETE FROM jobs")
    assert operator.delete("/workers/w").status_code == 204


def test_a_client_without_credentials_deletes_nothing(api: FlaskClient, sql: Sql, insert_worker: Insert) -> None:
    insert_worker("w", 300)
    for headers in ({}, {"REMOTE_USER": "ann"}, {"Remote-User": "ann"}, {"Authorization": "Bearer ann"}):
        for path in ("/workers/w", "/workers/unknown", "/workers/1"):
            response = api.delete(path, headers=headers)
            assert error(response) == (403, "AUTHENTICATION_REQUIRED")
            assert "--auth-token-file" in response.text
    assert remaining(sql) == ["w"]


def test_a_request_with_an_unknown_parameter_deletes_nothing(
    operator: FlaskClient, sql: Sql, insert_worker: Insert
) -> None:
    insert_worker("w", 300)
    assert error(operator.delete("/workers/w?dry_run=1")) == (400, "INVALID_PARAMETER")
    assert error(operator.delete("/workers/1")) == (400, "INVALID_WORKER_ID")
    assert error(operator.delete("/workers/")) == (400, "INVALID_WORKER_ID")
    assert error(operator.delete("/workers")) == (405, "METHOD_NOT_ALLOWED")
    assert remaining(sql) == ["w"]


def test_without_a_database_nothing_is_promised(make_api: Api) -> None:
    operator = make_api("postgresql://u:hunter2@127.0.0.1:1/d", user="ann")
    response = operator.delete("/workers/w")
    assert error(response) == (503, "METADATA_DB_UNAVAILABLE")
    assert "hunter2" not in response.text


def test_a_read_only_database_returns_the_remedy(
    operator: FlaskClient, sql: Sql, insert_worker: Insert, database: str
) -> None:
    insert_worker("w", 300)
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    response = operator.delete("/workers/w")
    assert error(response) == (403, "METADATA_DB_READ_ONLY")
    assert "primary" in response.text
    assert remaining(sql) == ["w"]


def test_a_role_without_the_right_to_delete_returns_the_remedy(
    make_api: Api, sql: Sql, insert_worker: Insert, database: str
) -> None:
    insert_worker("w", 300)
    sql("DROP ROLE IF EXISTS only_reads")
    sql("CREATE ROLE only_reads LOGIN")
    sql("GRANT SELECT ON workers TO only_reads")
    operator = make_api(database.replace("postgres@", "only_reads@"), user="ann")
    assert operator.get("/workers/w").status_code == 200
    response = operator.delete("/workers/w")
    assert error(response) == (403, "METADATA_DB_READ_ONLY")
    assert "GRANT DELETE ON workers" in response.text
    assert remaining(sql) == ["w"]
    sql("GRANT DELETE ON workers TO only_reads")
    assert operator.delete("/workers/w").status_code == 204
    sql("DROP OWNED BY only_reads")
    sql("DROP ROLE only_reads")


def answer_of_a_delete_that_waits(operator: FlaskClient, sql: Sql, database: str, meanwhile: str, ending: str) -> Any:
    """Return the response of a DELETE that waits for a transaction that has changed the row."""
    answers: list[Any] = []
    with psycopg.connect(database) as other:
        other.execute(meanwhile.encode())
        deleting = threading.Thread(target=lambda: answers.append(operator.delete("/workers/w")))
        deleting.start()
        eventually(lambda: sql(WAITING)[0][0] == 1)
        other.execute(ending.encode())
    deleting.join()
    return answers[0]


def test_a_heartbeat_at_the_same_moment_saves_the_worker(
    operator: FlaskClient, sql: Sql, insert_worker: Insert, database: str
) -> None:
    """The statement first sees a lost worker; after the wait it sees an active one."""
    insert_worker("w", 300)
    beat = "UPDATE workers SET heartbeat_at = clock_timestamp()"
    response = answer_of_a_delete_that_waits(operator, sql, database, beat, "COMMIT")
    assert error(response) == (409, "WORKER_ALIVE")
    assert "has just sent a heartbeat" in response.text
    assert remaining(sql) == ["w"]


def test_a_heartbeat_that_is_rolled_back_does_not_save_the_worker(
    operator: FlaskClient, sql: Sql, insert_worker: Insert, database: str
) -> None:
    insert_worker("w", 300)
    beat = "UPDATE workers SET heartbeat_at = clock_timestamp()"
    response = answer_of_a_delete_that_waits(operator, sql, database, beat, "ROLLBACK")
    assert response.status_code == 204
    assert remaining(sql) == []


def test_the_other_sessions_stay_read_only_and_this_one_ends(
    operator: FlaskClient, sql: Sql, insert_worker: Insert
) -> None:
    insert_worker("w", 300)
    assert operator.get("/workers/w").status_code == 200
    before = sql(SESSIONS)
    assert len(before) == 1
    assert operator.delete("/workers/w").status_code == 204
    eventually(lambda: sql(SESSIONS) == before)


def test_many_deletions_at_once_share_one_session(
    operator: FlaskClient, sql: Sql, insert_worker: Insert, database: str
) -> None:
    for number in range(8):
        insert_worker(f"w{number}", 300)
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE workers IN EXCLUSIVE MODE")
        clients = [operator.application.test_client() for _ in range(8)]
        statuses: list[int] = []

        def delete(number: int) -> None:
            answer = clients[number].delete(f"/workers/w{number}", environ_overrides={"REMOTE_USER": "ann"})
            statuses.append(answer.status_code)

        threads = [threading.Thread(target=delete, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        eventually(lambda: sql(WAITING)[0][0] == 1)
        sessions = sql(SESSIONS)
        other.rollback()
    for thread in threads:
        thread.join()
    assert len(sessions) == 1
    assert statuses == [204] * 8


def test_a_standby_returns_the_remedy(make_api: Api, open_directory: Path) -> None:
    with own_postgres(open_directory / "standby") as server:
        server.stop(5)
        signal = server.place.data / "standby.signal"
        signal.touch()
        os.chown(signal, server.place.data.stat().st_uid, server.place.data.stat().st_gid)
        server.start(lambda _: None)
        response = make_api(server.url, user="ann").delete("/workers/w")
        assert error(response) == (403, "METADATA_DB_READ_ONLY")
        assert "primary" in response.text
