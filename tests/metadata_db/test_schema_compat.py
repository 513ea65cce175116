"""A `workers` table that is too old, or is not Amp's, is refused; an upgrade of Amp is detected."""

from collections.abc import Iterator

import psycopg
import pytest

from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    MetadataDbUrl,
    Reader,
    State,
    UnfitSchema,
    check_compatible,
    check_schema,
    connect,
    list_workers,
    single_engine,
)
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.metadata_db import amp
from tests.metadata_db.test_fleet import read
from tests.pgbouncer import start_pgbouncer
from tests.processes import Processes
from tests.relay import Relay, socket_of

pytestmark = pytest.mark.slow

TOO_OLD = {
    amp.FIRST: r"upgrade Amp \(it lacks heartbeat_at, info, created_at, registered_at\)$",
    amp.WITH_INFO: r"upgrade Amp \(its heartbeat_at is of type timestamp without time zone\)$",
}


@pytest.fixture(params=["directly", "pooled"])
def url(
    request: pytest.FixtureRequest, processes: Processes, postgres: EmbeddedPostgres, empty_database: str
) -> Iterator[str]:
    """The URL of `empty_database`, directly and through a pooler."""
    if request.param == "directly":
        yield empty_database
    else:
        port = start_pgbouncer(processes, postgres, request.getfixturevalue("tmp_path"))
        yield f"postgresql://postgres@127.0.0.1:{port}/{empty_database.rpartition('?')[0].rpartition('/')[2]}"


def reader(url: str) -> Reader:
    return Reader(MetadataDbUrl.parse(url), "a reader", connections=1, statement_timeout=20)


def test_an_old_schema_is_refused_until_amp_is_upgraded(empty_database: str, url: str) -> None:
    reads = reader(url)
    amp.migrate(empty_database, amp.FIRST)
    amp.register(empty_database, amp.FIRST, "w")
    with connect(single_engine(MetadataDbUrl.parse(url), "a worker", statement_timeout=5), 5) as writer:
        for age, reason in TOO_OLD.items():
            amp.migrate(empty_database, age)
            for run in (check_schema, read, check_compatible):
                with pytest.raises(UnfitSchema, match=f"before Amp's migration 20251219050000: {reason}") as refused:
                    reads.query(run, 20)
                assert refused.value.reason == "schema"
            with pytest.raises(UnfitSchema, match=reason):
                check_compatible(writer)
        amp.migrate(empty_database, amp.TODAYS)
        check_compatible(writer)
    (worker,) = reads.query(lambda connection: list_workers(connection, DEFAULT_THRESHOLDS), 20)
    assert (worker["node_id"], worker["state"]) == ("w", State.ACTIVE)


def test_the_catalogue_is_read_once_per_session(postgres: EmbeddedPostgres, database: str) -> None:
    relay = Relay(socket_of(postgres))
    try:
        name = database.rpartition("?")[0].rpartition("/")[2]
        reads = reader(f"postgresql://postgres@127.0.0.1:{relay.port}/{name}")
        for expected in (1, 0):
            reads.query(check_schema, 20)
            assert sum(b"pg_attribute" in flight for flight in relay.flights) == expected
            relay.flights.clear()
    finally:
        relay.close()


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ("id bigint, name text", "it lacks node_id, heartbeat_at, info, created_at, registered_at"),
        ("id bigint, node_id text, last_heartbeat text", "it lacks heartbeat_at, info, created_at, registered_at"),
        (
            "id bigint, node_id text, heartbeat_at text, info json, created_at timestamptz, registered_at timestamptz",
            "its info is of type json; its heartbeat_at is of type text",
        ),
    ],
)
def test_a_table_that_is_not_amps_is_refused(empty_database: str, columns: str, problem: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE workers ({columns})".encode())
    reads = reader(empty_database)
    for run in (check_schema, read):
        with pytest.raises(UnfitSchema, match=f"the metadata DB's workers table is not Amp's: {problem}"):
            reads.query(run, 20)


def test_a_worker_is_refused_by_an_old_schema(empty_database: str, processes: Processes) -> None:
    amp.migrate(empty_database, amp.WITH_INFO)
    worker = processes.ampd("worker", "--node-id=w", "--", "echo", "started", database=empty_database)
    assert worker.wait() == 1
    assert "before Amp's migration 20251219050000: upgrade Amp" in worker.output
    assert worker.output.count("\n") == 1
    assert "started" not in worker.output
