"""`DELETE /workers/{id}` on Amp's own metadata DB: rows of `jobs` protect a worker, and an old schema is refused."""

import psycopg
import pytest

from tests.admin.conftest import Api
from tests.admin.test_api import error
from tests.metadata_db import amp
from tests.metadata_db.amp import TODAYS, TOO_OLD, WITH_ZONES

pytestmark = pytest.mark.slow

HOUR = 3600


def remaining(url: str) -> int:
    with psycopg.connect(url) as connection:
        return len(connection.execute("SELECT FROM workers").fetchall())


JOB = {
    WITH_ZONES: "INSERT INTO jobs (node_id, descriptor) VALUES ('w', '{}')",
    TODAYS: "WITH job AS (INSERT INTO jobs (descriptor) VALUES ('{}') RETURNING id) "
    "INSERT INTO jobs_status (job_id, node_id, status) SELECT id, 'w', 'RUNNING' FROM job",
}


@pytest.mark.parametrize("age", JOB)
def test_a_worker_stays_for_as_long_as_jobs_name_it(make_api: Api, empty_database: str, age: int) -> None:
    amp.migrate(empty_database, age)
    amp.register(empty_database, age, "w", silent_for=HOUR)
    amp.register(empty_database, age, "other", silent_for=HOUR)
    client = make_api(empty_database, user="ann")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        # A row of `jobs_status` has to exist before `jobs` refers to it.
        connection.execute("ALTER TABLE IF EXISTS jobs_status DROP CONSTRAINT jobs_status_job_id_fkey")
        connection.execute(JOB[age].encode())
        refused = client.delete("/workers/w")
        assert error(refused) == (409, "WORKER_IN_USE")
        assert refused.json is not None
        held = "rows of table jobs" if age == WITH_ZONES else "1 job of table jobs_status"
        assert f"still in use: {held} must be" in refused.json["error_message"]
        assert client.delete("/workers/other").status_code == 204
        assert remaining(empty_database) == 1
        connection.execute("DELETE FROM jobs_status" if age == TODAYS else "SELECT")
        connection.execute("DELETE FROM jobs")
    assert client.delete("/workers/w").status_code == 204
    assert remaining(empty_database) == 0


def test_a_worker_that_sends_heartbeats_is_alive_whatever_its_jobs(make_api: Api, empty_database: str) -> None:
    amp.migrate(empty_database, TODAYS)
    amp.register(empty_database, TODAYS, "w")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("ALTER TABLE jobs_status DROP CONSTRAINT jobs_status_job_id_fkey")
        connection.execute(JOB[TODAYS].encode())
    assert error(make_api(empty_database, user="ann").delete("/workers/w")) == (409, "WORKER_ALIVE")


def test_a_missing_table_and_another_table_differ(make_api: Api, empty_database: str) -> None:
    client = make_api(empty_database, user="ann")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        for create, reported in (
            (None, "no workers table"),
            ("CREATE TABLE workers (id int)", "is not Amp's: it lacks"),
        ):
            if create is not None:
                connection.execute(create.encode())
            response = client.delete("/workers/w")
            assert error(response) == (503, "METADATA_DB_UNAVAILABLE")
            assert response.json is not None
            assert reported in response.json["error_message"]


@pytest.mark.parametrize("age", TOO_OLD)
@pytest.mark.parametrize("silent_for", [0, HOUR], ids=["active", "lost"])
def test_nothing_is_deleted_from_an_old_schema(make_api: Api, empty_database: str, age: int, silent_for: float) -> None:
    amp.migrate(empty_database, age)
    amp.register(empty_database, age, "w", silent_for=silent_for)
    response = make_api(empty_database, user="ann").delete("/workers/w")
    assert error(response) == (503, "METADATA_DB_UNAVAILABLE")
    assert response.json is not None
    assert "migration 20251219050000: upgrade Amp" in response.json["error_message"]
    assert remaining(empty_database) == 1
