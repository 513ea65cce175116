"""Every age of Amp's own schema is read for what it says, and written so that Amp reads it right."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, select

from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    MetadataDbError,
    MetadataDbUrl,
    Reader,
    State,
    UnfitSchema,
    Worker,
    backend_of,
    check_schema,
    check_writable,
    connect,
    get_worker,
    heartbeat,
    list_workers,
    mark_stopped,
    register,
    registration,
    single_engine,
)
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.metadata_db.engine import pooled_engine
from amp_workers.metadata_db.layout import layout_of
from amp_workers.metadata_db.schema import workers
from tests.metadata_db import amp
from tests.metadata_db.amp import AGES, BUILD, FIRST, TODAYS, WITH_INFO, WITHOUT_ZONES, migrate
from tests.metadata_db.registering import enter
from tests.metadata_db.test_beat import messages
from tests.metadata_db.test_fleet import Fleet, read
from tests.pgbouncer import start_pgbouncer
from tests.processes import Processes
from tests.relay import Relay, socket_of

Ways = Callable[[str], dict[str, str]]


@pytest.fixture
def ways(processes: Processes, postgres: EmbeddedPostgres, tmp_path: Path) -> Ways:
    """The ways to a database: with a session of one's own, and through a pooler that keeps none."""

    def to(url: str) -> dict[str, str]:
        port = start_pgbouncer(processes, postgres, tmp_path)
        name = url.rpartition("?")[0].rpartition("/")[2]
        return {"directly": url, "pooled": f"postgresql://postgres@127.0.0.1:{port}/{name}"}

    return to


def reader(url: str) -> Reader:
    return Reader(MetadataDbUrl.parse(url), "a reader", connections=1, statement_timeout=20)


@contextlib.contextmanager
def pooled(url: str) -> Iterator[Connection]:
    """A connection of a pool."""
    engine = pooled_engine(MetadataDbUrl.parse(url), "a test", connections=1, statement_timeout=5)
    with connect(engine, 5) as connection:
        yield connection
    engine.dispose()


def workers_of(reads: Reader) -> list[Worker]:
    return reads.query(lambda connection: list_workers(connection, DEFAULT_THRESHOLDS), 20)


def fleet_of(reads: Reader, known: Fleet | None = None) -> Fleet:
    return reads.query(lambda connection: read(connection, known=known), 20)


def shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_now(moment: str) -> bool:
    return abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()) < 60


@pytest.mark.parametrize("age", AGES)
def test_each_age_is_read_for_what_it_says(empty_database: str, age: int, ways: Ways) -> None:
    migrate(empty_database, age)
    amp.register(empty_database, age, "alive")
    amp.register(empty_database, age, "lost", {"version": "v1"}, silent_for=120)
    for way in ways(empty_database).values():
        reads = reader(way)
        reads.query(check_schema, 20)
        amp.register(empty_database, age, "alive")  # it has grown older meanwhile
        alive, lost = workers_of(reads)
        assert (alive["node_id"], alive["state"], lost["node_id"], lost["state"]) == (
            "alive",
            State.ACTIVE,
            "lost",
            State.LOST,
        )
        assert is_now(alive["heartbeat_at"])
        assert 120 <= lost["heartbeat_age_seconds"] < 180
        assert reads.query(lambda connection: get_worker(connection, "alive", DEFAULT_THRESHOLDS), 20) is not None
        if age == FIRST:
            assert {alive["created_at"], alive["registered_at"], *alive["info"].values()} == {"unknown"}
        else:
            assert is_now(alive["created_at"])
            assert is_now(alive["registered_at"])
            assert alive["info"] == BUILD
            assert lost["info"] == dict.fromkeys(BUILD, "unknown") | {"version": "v1"}
        fleet = fleet_of(reads)
        (member,) = fleet.details[0, State.ACTIVE].members
        assert {group.state: group.workers for group in fleet.groups} == {State.ACTIVE: 1, State.LOST: 1}
        if age == FIRST:
            assert (member.registered_at, member.created_at) == (None, None)
        else:
            assert member.registered_at is not None
            assert is_now(shown(datetime.fromtimestamp(float(member.registered_at), UTC)))
        assert fleet_of(reads, fleet).details == {}


def test_an_upgrade_of_amps_is_seen_by_the_next_query(empty_database: str, ways: Ways) -> None:
    migrate(empty_database, FIRST)
    amp.register(empty_database, FIRST, "w")
    readers = {way: (reader(url), reader(url)) for way, url in ways(empty_database).items()}

    def sessions() -> list[int]:
        return [reads.query(backend_of, 20) for both in readers.values() for reads in both]

    opened = sessions()
    for age in (FIRST, WITH_INFO, TODAYS):
        migrate(empty_database, age)
        amp.register(empty_database, age, "w")
        for lists, scrapes in readers.values():
            for _ in range(7):  # as often as makes psycopg prepare a statement
                (worker,) = workers_of(lists)
                assert (worker["state"], worker["registered_at"] == "unknown") == (State.ACTIVE, age == FIRST)
                assert [group.state for group in fleet_of(scrapes).groups] == [State.ACTIVE]
                assert worker["info"]["version"] == ("unknown" if age == FIRST else BUILD["version"])
    assert sessions() == opened


def test_todays_schema_has_todays_statements(empty_database: str) -> None:
    statement = select(workers.c.node_id)
    for age in (FIRST, TODAYS):
        migrate(empty_database, age)
        with pooled(empty_database) as connection:
            assert (layout_of(connection).readable(statement) is statement) == (age == TODAYS)


@pytest.mark.parametrize(
    ("columns", "lacks"),
    [
        ("id bigint, name text", "none of Amp's: it lacks node_id, heartbeat_at"),
        ("id bigint, node_id text, last_heartbeat text", "none of Amp's: its heartbeat_at is of type text"),
    ],
)
def test_a_schema_that_nobody_knows_is_told(empty_database: str, columns: str, lacks: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE workers ({columns})".encode())
    reads = reader(empty_database)
    for run in (check_schema, read):
        with pytest.raises(MetadataDbError, match=lacks) as unfit:
            reads.query(run, 20)
        assert unfit.value.reason == "schema"


@pytest.fixture(params=["directly", "pooled"])
def open_to(request: pytest.FixtureRequest, ways: Ways) -> Iterator[Callable[[str], Connection]]:
    opened = []

    def to(url: str) -> Connection:
        connection = connect(single_engine(MetadataDbUrl.parse(ways(url)[request.param]), "w", statement_timeout=5), 5)
        opened.append(connection)
        return connection

    yield to
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("age", [WITH_INFO, WITHOUT_ZONES, TODAYS])
def test_a_worker_writes_utc_whatever_the_time_zone(
    empty_database: str, age: int, open_to: Callable[[str], Connection]
) -> None:
    migrate(empty_database, age)
    connection = open_to(empty_database)
    check_writable(connection)

    def found() -> Worker:
        (worker,) = workers_of(reader(empty_database))
        assert all(is_now(each) for each in (worker["created_at"], worker["registered_at"], worker["heartbeat_at"]))
        return worker

    first = enter(connection, "w", BUILD)
    assert is_now(shown(first))
    assert found()["registered_at"] == shown(first)
    assert heartbeat(connection, "w", first)
    assert found()["heartbeat_at"] >= shown(first)
    seen = registration(connection, "w")
    assert seen is not None
    assert seen.registered_at == first
    assert 0 <= seen.silent_seconds < 60
    assert register(connection, "w", BUILD, None) is None
    second = register(connection, "w", BUILD, seen)
    assert second is not None
    assert second > first
    assert not heartbeat(connection, "w", first)
    assert not mark_stopped(connection, "w", first)
    assert heartbeat(connection, "w", second)
    assert mark_stopped(connection, "w", second)
    assert found()["state"] == State.STOPPED


@pytest.mark.parametrize("write", [heartbeat, mark_stopped])
@pytest.mark.parametrize("age", [WITH_INFO, WITHOUT_ZONES])
def test_a_worker_writes_through_an_upgrade_of_amps(
    empty_database: str,
    age: int,
    write: Callable[[Connection, str, datetime], bool],
    open_to: Callable[[str], Connection],
) -> None:
    migrate(empty_database, age)
    connection = open_to(empty_database)
    fence = enter(connection, "w", BUILD)
    assert heartbeat(connection, "w", fence)
    if age == WITHOUT_ZONES:
        with psycopg.connect(empty_database, autocommit=True) as amp:
            amp.execute(
                "ALTER TABLE workers ALTER registered_at TYPE timestamptz USING registered_at AT TIME ZONE 'UTC'"
            )
    migrate(empty_database, TODAYS)
    assert write(connection, "w", fence)
    (worker,) = workers_of(reader(empty_database))
    assert is_now(worker["heartbeat_at"])
    assert worker["registered_at"] == shown(fence)


def test_a_beat_in_utc_is_one_round_trip_of_a_prepared_statement(
    empty_database: str, postgres: EmbeddedPostgres
) -> None:
    migrate(empty_database, WITH_INFO)
    relay = Relay(socket_of(postgres))
    try:
        name = empty_database.rpartition("?")[0].rpartition("/")[2]
        url = MetadataDbUrl.parse(f"postgresql://postgres@127.0.0.1:{relay.port}/{name}")
        with connect(single_engine(url, "w", statement_timeout=5), 5) as connection:
            fence = enter(connection, "w", BUILD)
            assert heartbeat(connection, "w", fence)
            relay.flights.clear()
            for _ in range(3):
                assert heartbeat(connection, "w", fence)
            assert [messages(flight) for flight in relay.flights] == ["BDES"] * 3
    finally:
        relay.close()


def test_a_worker_is_refused_where_columns_are_missing(empty_database: str, processes: Processes) -> None:
    migrate(empty_database, FIRST)
    lacks = "it lacks heartbeat_at, info, created_at, registered_at"
    engine = single_engine(MetadataDbUrl.parse(empty_database), "w", statement_timeout=5)
    with connect(engine, 5) as connection, pytest.raises(UnfitSchema, match=lacks):
        check_writable(connection)
    worker = processes.ampd("worker", "--node-id=w", "--", "echo", "started", database=empty_database)
    assert worker.wait() == 1
    assert lacks in worker.output
    assert "started" not in worker.output
