"""Reads through PgBouncer in transaction mode: each transaction gets any session, and sessions keep no state."""

from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import delete, text

from amp_workers.metadata_db import DEFAULT_THRESHOLDS, MetadataDbError, MetadataDbUrl, Reader, list_workers
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.metadata_db.schema import workers
from tests.conftest import Insert, Witnessed
from tests.metadata_db.test_fleet import read
from tests.pgbouncer import start_pgbouncer
from tests.processes import Processes, eventually, free_port, get

SETTINGS = (
    *("default_transaction_read_only", "statement_timeout", "idle_in_transaction_session_timeout"),
    *("timezone", "jit", "work_mem"),
)


@pytest.fixture
def pooled(processes: Processes, postgres: EmbeddedPostgres, database: str, tmp_path: Path) -> str:
    """The URL of the test's database behind a PgBouncer with a single session."""
    port = start_pgbouncer(processes, postgres, tmp_path, pool_size=1)
    return f"postgresql://postgres@127.0.0.1:{port}/{database.rpartition('?')[0].rpartition('/')[2]}"


def reader(url: str, statement_timeout: float = 10.0) -> Reader:
    return Reader(MetadataDbUrl.parse(url), "a reader", connections=1, statement_timeout=statement_timeout)


@pytest.mark.slow
def test_admin_and_exporter_serve(
    pooled: str, processes: Processes, insert_worker: Insert, witnessed: Witnessed
) -> None:
    insert_worker("w")
    admin, exporter = free_port(), free_port()
    processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{admin}", database=pooled)
    processes.ampd("exporter", "--web.listen-address", f"127.0.0.1:{exporter}", database=pooled)
    for port in (admin, exporter):
        eventually(partial(get, f"http://127.0.0.1:{port}/-/ready"), 30)
    seen = witnessed(admin)
    for _ in range(12):  # as often as psycopg needs to prepare a statement, in a session that another client gets
        assert '"node_id":"w"' in get(f"http://127.0.0.1:{seen}/workers")
        assert '"node_id":"w"' in get(f"http://127.0.0.1:{seen}/workers/w")
        assert 'amp_worker_info{node_id="w"' in get(f"http://127.0.0.1:{exporter}/metrics")


def test_session_settings_apply_to_each_transaction(pooled: str, database: str) -> None:
    statement = text("SELECT " + ", ".join(f"current_setting('{name}')" for name in SETTINGS))
    shown = [
        reader(url).query(lambda connection: connection.execute(statement).one(), 10) for url in (database, pooled)
    ]
    assert shown[0] == shown[1] == ("on", "10s", "10s", "UTC", "off", "64MB")


def test_nothing_is_left_in_a_session_that_others_get(pooled: str) -> None:
    with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as other:

        def settings() -> list[object]:
            return [other.execute(f"SHOW {name}".encode()).fetchall() for name in SETTINGS]

        before = settings()
        reads = reader(pooled)
        reads.query(lambda connection: list_workers(connection, DEFAULT_THRESHOLDS), 10)
        reads.query(read, 10)
        assert settings() == before


def test_no_write_is_possible(pooled: str) -> None:
    with pytest.raises(MetadataDbError) as refused:
        reader(pooled).query(lambda connection: connection.execute(delete(workers)), 10)
    assert refused.value.reason == "refused"


@pytest.mark.slow
def test_a_statement_is_ended_by_the_server(pooled: str) -> None:
    reads = reader(pooled, statement_timeout=3.0)  # the limit of the next statements as well
    with pytest.raises(MetadataDbError, match="canceling statement due to statement timeout"):
        reads.query(lambda connection: connection.execute(text("SELECT pg_sleep(30)")), 20)
    assert reads.query(lambda connection: list_workers(connection, DEFAULT_THRESHOLDS), 10) == []


@pytest.mark.slow
def test_a_statement_that_waits_for_a_lock_ends_soon_after_its_deadline(pooled: str, database: str) -> None:
    """It cannot be cancelled, and PostgreSQL does not notice that its client has gone."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'workers'::regclass"
    with psycopg.connect(database) as migration, psycopg.connect(database, autocommit=True) as other:
        migration.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(MetadataDbError) as late:
            reader(pooled, statement_timeout=600.0).query(read, 0.5)
        assert late.value.reason == "timeout"
        eventually(lambda: other.execute(waiting).fetchone() == (0,), 30)


def test_a_pooler_is_sent_no_request_to_cancel(pooled: str, processes: Processes) -> None:
    reads = reader(pooled)
    with pytest.raises(MetadataDbError) as late:
        reads.query(lambda connection: connection.execute(text("SELECT pg_sleep(30)")), 0.5)
    assert late.value.reason == "timeout"
    assert reads.query(lambda connection: list_workers(connection, DEFAULT_THRESHOLDS), 10) == []
    [pgbouncer] = [process for process in processes.started if "pgbouncer" in str(process.popen.args)]
    assert "login attempt" in pgbouncer.output
    assert "cancel" not in pgbouncer.output
