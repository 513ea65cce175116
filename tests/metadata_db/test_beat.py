"""The cost of a heartbeat for the database: one round trip, no wait for the disk, no index update, no growth."""

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from amp_workers.metadata_db import MetadataDbUrl, connect, deadline, heartbeat, mark_stopped, single_engine
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.metadata_db.registrations import BEAT
from tests.metadata_db.registering import enter
from tests.pgbouncer import start_pgbouncer
from tests.processes import Processes, eventually
from tests.relay import Relay

Sql = Callable[..., list[Any]]


def open_connection(url: str) -> Connection:
    return connect(single_engine(MetadataDbUrl.parse(url), "a test", statement_timeout=5), 5)


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with open_connection(database) as opened:
        yield opened


@pytest.fixture
def relay(postgres: EmbeddedPostgres) -> Iterator[Relay]:
    made = Relay(postgres.url.rpartition("host=")[2] + "/.s.PGSQL.5432")
    yield made
    made.close()


def messages(flight: bytes) -> str:
    """Return the types of the protocol messages in the client's data."""
    types = ""
    while flight:
        types += chr(flight[0])
        flight = flight[1 + struct.unpack("!I", flight[1:5])[0] :]
    return types


def test_a_heartbeat_is_one_round_trip_of_a_prepared_statement(database: str, relay: Relay) -> None:
    name = database.rpartition("?")[0].rpartition("/")[2]
    with open_connection(f"postgresql://postgres@127.0.0.1:{relay.port}/{name}") as connection:
        fence = enter(connection, "w", {})
        assert heartbeat(connection, "w", fence)
        relay.flights.clear()
        for _ in range(3):
            assert heartbeat(connection, "w", fence)
        # Bind, Describe, Execute, Sync: no Parse, and neither a BEGIN nor a COMMIT.
        assert [messages(flight) for flight in relay.flights] == ["BDES"] * 3


def test_a_heartbeat_alone_does_not_wait_for_the_disk(connection: Connection, sql: Sql) -> None:
    sql("CREATE TABLE commits (id bigserial, setting text)")
    sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO commits (setting) VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$"
    )
    # A deferred trigger: it sees the setting that applies to the commit.
    sql(
        "CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON workers DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION note()"
    )
    fence = enter(connection, "w", {})
    assert heartbeat(connection, "w", fence)
    fence = enter(connection, "w", {})
    assert heartbeat(connection, "w", fence)
    assert mark_stopped(connection, "w", fence)
    settings = [row[0] for row in sql("SELECT setting FROM commits ORDER BY id")]
    assert settings == ["local", "off", "local", "off", "local"]


# Each heartbeat has its own transaction, as with many clients, but needs no network round trip.
BEAT_BY_ALL = """
DO $$ DECLARE worker record; BEGIN
    FOR round IN 1..%d LOOP
        FOR worker IN SELECT node_id, registered_at FROM workers LOOP
            EXECUTE %s USING worker.node_id, worker.registered_at;
            COMMIT;
        END LOOP;
    END LOOP;
END $$
"""


@pytest.fixture
def no_autovacuum(sql: Sql) -> Iterator[None]:
    """The autovacuum launcher is off as well: its snapshots of databases and tables would keep dead row versions."""
    sql("ALTER SYSTEM SET autovacuum = off")
    sql("SELECT pg_reload_conf()")
    eventually(lambda: sql("SELECT FROM pg_stat_activity WHERE backend_type LIKE 'autovacuum%'") == [])
    yield
    sql("ALTER SYSTEM RESET autovacuum")
    sql("SELECT pg_reload_conf()")


@pytest.mark.slow
@pytest.mark.usefixtures("no_autovacuum")
def test_heartbeats_touch_no_index_and_the_table_does_not_grow(sql: Sql) -> None:
    """100,000 heartbeats of 500 workers leave the table as large as 1,000 do."""
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) SELECT 'worker-' || g, now(), "
        """'{"version": "v0.0.22-15-g8b065bde", "commit_sha": "8b065bde9c1a2f3e4d5c6b7a8e9f0a1b2c3d4e5f"}', """
        "now(), now() FROM generate_series(1, 500) g"
    )
    statement = BEAT.replace("%s", "$1", 1).replace("%s", "$2", 1)

    def beat(rounds: int) -> tuple[Any, ...]:
        sql(BEAT_BY_ALL % (rounds, "'" + statement.replace("'", "''") + "'"))
        sizes: tuple[Any, ...] = sql("SELECT pg_table_size('workers'), pg_indexes_size('workers')")[0]
        return sizes

    def updates() -> tuple[Any, Any]:
        sql("SELECT pg_stat_force_next_flush()")
        every, hot = sql("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'workers'")[0]
        return every, hot / every

    # The first heartbeats find the pages as full as they will ever be, and still fit.
    after_1_000 = beat(2)
    assert updates() == (1_000, pytest.approx(1, abs=0.01))
    assert beat(198) == after_1_000
    assert updates() == (100_000, pytest.approx(1, abs=0.01))


def test_registration_and_stop_wait_for_no_standby(
    database: str, sql: Sql, processes: Processes, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    port = start_pgbouncer(processes, postgres, tmp_path)
    pooled = f"postgresql://postgres@127.0.0.1:{port}/{database.rpartition('?')[0].rpartition('/')[2]}"
    sql("SET synchronous_commit = local")
    sql("ALTER SYSTEM SET synchronous_standby_names = 'gone'")
    sql("SELECT pg_reload_conf()")
    try:
        eventually(lambda: sql("SHOW synchronous_standby_names") == [("gone",)])
        for node_id, url in (("direct", database), ("pooled", pooled)):
            with open_connection(url) as connection, deadline(connection, 20):
                fence = enter(connection, node_id, {})
                assert heartbeat(connection, node_id, fence)
                assert mark_stopped(connection, node_id, fence)
    finally:
        sql("ALTER SYSTEM RESET synchronous_standby_names")
        sql("SELECT pg_reload_conf()")
        eventually(lambda: sql("SHOW synchronous_standby_names") == [("",)])


def test_a_sequence_that_is_behind_the_table(database: str, sql: Sql, processes: Processes) -> None:
    """A logical migration copies the rows and not the sequence."""
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) "
        "SELECT 'old-' || g, now(), now(), now() FROM generate_series(1, 500) g"
    )
    sql("ALTER TABLE workers ALTER id RESTART")
    worker = processes.ampd("worker", "--node-id=new", database=database)
    worker.says("run SELECT setval")
    [command] = re.findall(r"run (SELECT setval\(.*?\) FROM public\.workers)", worker.output)
    sql(command)
    worker.says("registered as 'new'")
    assert worker.output.count("setval") == 1
    assert worker.stop() == 0
