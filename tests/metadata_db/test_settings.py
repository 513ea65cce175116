"""Settings of the environment, the URL, the role and the database do not change the behaviour of sessions."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql as pg

from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    MetadataDbUrl,
    Reader,
    connect,
    deadline,
    heartbeat,
    list_workers,
    mark_stopped,
    registration,
    single_engine,
    translate_errors,
)
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.metadata_db.registering import enter
from tests.metadata_db.test_beat import messages
from tests.metadata_db.test_fleet import read
from tests.pgbouncer import start_pgbouncer
from tests.processes import Processes, eventually, free_port, get
from tests.relay import Relay

Sql = Callable[..., list[Any]]

HOSTILE = {
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kolkata",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "client_min_messages": "debug5",
    "lock_timeout": "1",
    "idle_session_timeout": "200",
    "idle_in_transaction_session_timeout": "1",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "row_security": "on",
    "client_encoding": "latin1",
}


def name_of(url: str) -> str:
    return url.rpartition("?")[0].rpartition("/")[2]


@pytest.fixture
def pooled(processes: Processes, postgres: EmbeddedPostgres, database: str, tmp_path: Path) -> str:
    port = start_pgbouncer(processes, postgres, tmp_path)
    return f"postgresql://postgres@127.0.0.1:{port}/{name_of(database)}"


def live(url: str) -> None:
    """Register, send heartbeats, run each read, and stop."""
    parsed = MetadataDbUrl.parse(url)
    reader = Reader(parsed, "a reader", connections=1, statement_timeout=10)
    with (
        translate_errors(),
        connect(single_engine(parsed, "a worker", statement_timeout=5), 5) as connection,
        deadline(connection, 30),
    ):
        registered_at = enter(connection, "w", {"version": "größer"})
        assert registered_at.utcoffset() is not None
        for _ in range(7):  # as often as psycopg needs to prepare a statement
            assert heartbeat(connection, "w", registered_at)
            found = registration(connection, "w")
            assert found is not None
            assert found.registered_at == registered_at
            (worker,) = reader.query(lambda connection: list_workers(connection, DEFAULT_THRESHOLDS), 10)
            assert (worker["state"], worker["info"]["version"]) == ("active", "größer")
            assert 0 <= worker["heartbeat_age_seconds"] < 5
            (group,) = reader.query(read, 10).groups
            assert group.workers == 1
        assert mark_stopped(connection, "w", registered_at)


def test_settings_of_the_database(database: str, pooled: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        # It terminates PgBouncer's idle sessions, which are not ours.
        for name, value in (HOSTILE | {"idle_session_timeout": "0"}).items():
            connection.execute(
                pg.SQL("ALTER DATABASE {} SET {} = {}").format(
                    pg.Identifier(name_of(database)), pg.Identifier(name), value
                )
            )
    for url in (database, pooled):
        live(url)


def test_settings_of_the_role(database: str, sql: Sql) -> None:
    sql("CREATE ROLE hostile LOGIN SUPERUSER")
    try:
        for name, value in HOSTILE.items():
            sql(f"ALTER ROLE hostile SET {name} = '{value}'")
        live(database.replace("postgres@", "hostile@"))
    finally:
        sql("DROP ROLE hostile")


@pytest.mark.slow
def test_settings_of_the_url_and_the_environment(database: str, pooled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only a superuser may set log_min_messages in the startup packet, and PgBouncer does not forward options.
    options = " ".join(f"-c {name}={value}" for name, value in HOSTILE.items())
    live(f"{database}&options={quote(options)}&client_encoding=latin1")
    for name, value in (("PGDATESTYLE", "SQL"), ("PGTZ", "Asia/Kolkata"), ("PGCLIENTENCODING", "latin1")):
        monkeypatch.setenv(name, value)
    live(pooled)
    monkeypatch.setenv("PGOPTIONS", options)
    live(database)


def test_a_search_path_is_the_operators_choice(database: str, sql: Sql) -> None:
    sql("CREATE SCHEMA amp")
    sql("ALTER TABLE workers SET SCHEMA amp")
    live(f"{database}&options={quote('-c search_path=amp')}")
    sql(f'ALTER DATABASE "{name_of(database)}" SET search_path = amp')
    live(database)


@pytest.mark.slow
def test_the_commands_run_whatever_the_environment_sets(database: str, processes: Processes, sql: Sql) -> None:
    environment = {
        "PGDATESTYLE": "SQL",
        "PGTZ": "Asia/Kolkata",
        "PGCLIENTENCODING": "latin1",
        "PGOPTIONS": "-c datestyle=German -c intervalstyle=iso_8601 -c row_security=on -c lock_timeout=1",
    }
    admin, exporter = free_port(), free_port()
    worker = processes.ampd("worker", "--node-id=w", database=database, env=environment)
    for part, port in (("admin", admin), ("exporter", exporter)):
        processes.ampd(part, "--web.listen-address", f"127.0.0.1:{port}", database=database, env=environment)
    worker.says("registered as 'w'")
    for port in (admin, exporter):
        eventually(partial(get, f"http://127.0.0.1:{port}/-/ready"), 30)
    assert '"node_id":"w","state":"active"' in get(f"http://127.0.0.1:{admin}/workers")
    assert 'amp_workers{state="active"} 1.0\n' in get(f"http://127.0.0.1:{exporter}/metrics")
    # The same holds after the worker has lost its session.
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
    before = sql("SELECT heartbeat_at FROM workers")
    eventually(lambda: sql("SELECT heartbeat_at FROM workers") > before)
    assert worker.stop() == 0
    assert "Traceback" not in worker.output


def test_a_heartbeat_through_a_pooler_is_one_message(database: str, pooled: str) -> None:
    port = int(pooled.rpartition(":")[2].partition("/")[0])
    relay = Relay(("127.0.0.1", port))
    try:
        url = MetadataDbUrl.parse(pooled.replace(f":{port}/", f":{relay.port}/"))
        with connect(single_engine(url, "a worker", statement_timeout=5), 5) as connection:
            registered_at = enter(connection, "w", {})
            relay.flights.clear()
            for _ in range(3):
                assert heartbeat(connection, "w", registered_at)
        beats = [flight for flight in relay.flights if b"UPDATE" in flight]
        assert [messages(flight) for flight in beats] == ["Q"] * 3
        assert all(flight[5:].startswith(b"BEGIN") and flight.endswith(b"; COMMIT\0") for flight in beats)
        assert len(relay.flights) <= len(beats) + 1  # the end of the connection
    finally:
        relay.close()
