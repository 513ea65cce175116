"""If a prepared statement or a session becomes unusable, the read is repeated once, and no error is visible."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection

from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    MetadataDbError,
    MetadataDbUrl,
    Reader,
    connect,
    heartbeat,
    list_workers,
    single_engine,
    translate_errors,
)
from tests.conftest import Insert
from tests.metadata_db.registering import enter
from tests.metadata_db.test_fleet import read
from tests.processes import Processes, eventually, free_port, get

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]

OTHER_TYPE = "ALTER TABLE workers ALTER node_id TYPE varchar(300)"

CHANGES = {
    "another type": (OTHER_TYPE,),
    "another column": (
        "ALTER TABLE workers ADD COLUMN extra text",
        "ALTER TABLE workers ADD COLUMN more int DEFAULT 1",
    ),
    "created anew": (
        "CREATE TABLE copy (LIKE workers INCLUDING ALL)",
        "INSERT INTO copy OVERRIDING SYSTEM VALUE SELECT * FROM workers",
        "DROP TABLE workers",
        "ALTER TABLE copy RENAME TO workers",
    ),
    "another search_path": (
        "CREATE SCHEMA amp",
        "ALTER TABLE workers SET SCHEMA amp",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = amp', current_database()); END $$",
    ),
    "sessions ended": ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'a %'",),
    "statements discarded": ("DEALLOCATE ALL",),
}


def names(connection: Connection) -> list[str]:
    return [worker["node_id"] for worker in list_workers(connection, DEFAULT_THRESHOLDS)]


def on_both(reader: Reader, run: Callable[[Connection], object]) -> None:
    """Run on two sessions at once, so that the pool has two sessions."""

    def outer(connection: Connection) -> None:
        run(connection)
        reader.query(run, 20)

    reader.query(outer, 20)


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_read_and_the_next_heartbeat_succeed(
    database: str, sql: Sql, insert_worker: Insert, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="amp_workers.metadata_db")
    insert_worker("other")
    url = MetadataDbUrl.parse(database)
    reader = Reader(url, "a reader", connections=2, statement_timeout=20)
    engine = single_engine(url, "a worker", statement_timeout=5)
    connection = connect(engine, 5)
    registered_at = enter(connection, "w", {})
    for _ in range(7):  # as often as psycopg needs to prepare a statement
        on_both(reader, names)
        on_both(reader, read)
        assert heartbeat(connection, "w", registered_at)
    if change == "statements discarded":
        on_both(reader, lambda connection: connection.exec_driver_sql(CHANGES[change][0]))
    else:
        for statement in CHANGES[change]:
            sql(statement)
    for _ in range(2):
        assert reader.query(names, 20) == ["other", "w"]
        assert sum(group.workers for group in reader.query(read, 20).groups) == 2
    assert [record.levelname for record in caplog.records] == []
    try:
        with translate_errors():
            assert heartbeat(connection, "w", registered_at)
    except MetadataDbError:  # then a worker uses another session
        connection.close()
        connection = connect(engine, 5)
        assert heartbeat(connection, "w", registered_at)
    connection.close()


def test_rights_and_a_database_that_are_restored(database: str, sql: Sql, insert_worker: Insert) -> None:
    insert_worker("w")
    sql("CREATE ROLE limited LOGIN")
    name = database.rpartition("?")[0].rpartition("/")[2]
    try:
        sql("GRANT SELECT ON workers TO limited")
        url = MetadataDbUrl.parse(database.replace("postgres@", "limited@"))
        reader = Reader(url, "a reader", connections=2, statement_timeout=20)
        assert reader.query(names, 20) == ["w"]
        sql("REVOKE SELECT ON workers FROM limited")
        with pytest.raises(MetadataDbError, match="print-grants") as refused:
            reader.query(names, 20)
        assert refused.value.reason == "refused"
        sql("GRANT SELECT ON workers TO limited")
        assert reader.query(names, 20) == ["w"]
        with psycopg.connect(database.replace(f"/{name}?", "/postgres?"), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
            sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'a reader'")
            with pytest.raises(MetadataDbError) as refused:
                reader.query(names, 20)
            assert refused.value.reason == "refused"
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
        assert reader.query(names, 20) == ["w"]
    finally:
        sql("REVOKE ALL ON workers FROM limited")
        sql("DROP ROLE limited")


def test_admin_exporter_and_worker_go_on(database: str, processes: Processes, sql: Sql) -> None:
    admin, exporter = free_port(), free_port()
    worker = processes.ampd("worker", "--node-id=w", database=database)
    for part, port in (("admin", admin), ("exporter", exporter)):
        processes.ampd(part, "--web.listen-address", f"127.0.0.1:{port}", database=database)
    worker.says("registered as 'w'")
    for port in (admin, exporter):
        eventually(partial(get, f"http://127.0.0.1:{port}/-/ready"))
    addresses = (f"http://127.0.0.1:{admin}/workers/w", f"http://127.0.0.1:{exporter}/metrics")
    for _ in range(12):
        for address in addresses:
            get(address)
    sql(OTHER_TYPE)
    before = sql("SELECT heartbeat_at FROM workers")
    for address in addresses:
        assert "amp_metadata_db_up 1.0" in get(address) or '"state":"active"' in get(address)
    eventually(lambda: sql("SELECT heartbeat_at FROM workers") > before)
    assert worker.stop() == 0
    assert "Traceback" not in worker.output
