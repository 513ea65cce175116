import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection

from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    MetadataDbUrl,
    State,
    Thresholds,
    backend_of,
    connect,
    end_lock_holder,
    get_worker,
    heartbeat,
    list_workers,
    lock_holder,
    mark_stopped,
    register,
    registration,
    single_engine,
    try_lock,
)
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.conftest import Insert, fresh_database
from tests.metadata_db.registering import enter
from tests.metadata_db.test_fleet import members_of, read
from tests.processes import eventually

DAY = 86_400.0


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with connect(single_engine(MetadataDbUrl.parse(database), "test", statement_timeout=5), 5) as opened:
        yield opened


def states(connection: Connection, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> dict[str, str]:
    return {worker["node_id"]: worker["state"] for worker in list_workers(connection, thresholds)}


def shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_a_registration_inserts_or_replaces_the_row(connection: Connection) -> None:
    first = enter(connection, "w", {"version": "v1"})
    before = get_worker(connection, "w", DEFAULT_THRESHOLDS)
    second = enter(connection, "w", {"version": "v2"})
    after = get_worker(connection, "w", DEFAULT_THRESHOLDS)
    assert before is not None
    assert after is not None
    assert after["created_at"] == before["created_at"] == shown(first)
    assert after["registered_at"] == after["heartbeat_at"] == shown(second)
    assert second > first
    assert (before["info"]["version"], after["info"]["version"]) == ("v1", "v2")


def test_a_heartbeat_is_fenced_by_the_registration(connection: Connection) -> None:
    old = enter(connection, "w", {})
    assert heartbeat(connection, "w", old)
    new = enter(connection, "w", {})
    assert not heartbeat(connection, "w", old)
    assert not mark_stopped(connection, "w", old)
    assert heartbeat(connection, "w", new)
    assert states(connection) == {"w": State.ACTIVE}


def test_a_stop_is_recorded_and_removed_by_a_registration(
    connection: Connection, sql: Callable[..., list[Any]]
) -> None:
    fence = enter(connection, "w", {"version": "v1"})
    assert mark_stopped(connection, "w", fence)
    assert states(connection) == {"w": State.STOPPED}
    info = sql("SELECT info FROM workers")[0][0]
    assert info["version"] == "v1"
    assert datetime.fromisoformat(info["stopped_at"]).tzinfo is not None
    enter(connection, "w", {"version": "v1"})
    assert states(connection) == {"w": State.ACTIVE}
    assert "stopped_at" not in sql("SELECT info FROM workers")[0][0]


def test_the_lock_lasts_as_long_as_the_session(database: str, connection: Connection) -> None:
    other = connect(single_engine(MetadataDbUrl.parse(database), "other", statement_timeout=5), 5)
    assert try_lock(other, "w")
    assert not try_lock(connection, "w")
    assert try_lock(connection, "another")
    other.close()
    eventually(lambda: try_lock(connection, "w"))


def test_a_worker_that_has_sent_a_heartbeat_since_it_was_seen_keeps_its_registration(connection: Connection) -> None:
    fence = enter(connection, "w", {})
    seen = registration(connection, "w")
    assert heartbeat(connection, "w", fence)
    assert register(connection, "w", {}, seen) is None
    assert heartbeat(connection, "w", fence)


def held_by(connection: Connection, node_id: str) -> int | None:
    holder = lock_holder(connection, node_id)
    return None if holder is None else holder.pid


def test_a_lock_applies_to_one_database(connection: Connection, postgres: EmbeddedPostgres) -> None:
    with (
        fresh_database(postgres) as url,
        connect(single_engine(MetadataDbUrl.parse(url), "other", statement_timeout=5), 5) as other,
    ):
        assert try_lock(other, "w")
        assert lock_holder(connection, "w") is None
        end_lock_holder(connection, "w", backend_of(other))
        assert held_by(other, "w") == backend_of(other)


def test_only_the_session_that_was_seen_to_hold_a_lock_is_ended(database: str, connection: Connection) -> None:
    """Another session may have taken the lock in the meantime."""
    with connect(single_engine(MetadataDbUrl.parse(database), "other", statement_timeout=5), 5) as other:
        assert try_lock(other, "w")
        end_lock_holder(connection, "w", backend_of(connection))
        assert held_by(other, "w") == backend_of(other)


def test_registration_returns_the_fence_and_the_heartbeat(connection: Connection) -> None:
    assert registration(connection, "w") is None
    fence = enter(connection, "w", {})
    found = registration(connection, "w")
    assert found is not None
    assert found.registered_at == fence
    assert found.heartbeat_at == fence
    assert not found.stopped
    assert mark_stopped(connection, "w", fence)
    found = registration(connection, "w")
    assert found is not None
    assert found.stopped


@pytest.mark.usefixtures("stopped_clock")
def test_a_worker_changes_its_state_on_the_thresholds(connection: Connection, insert_worker: Insert) -> None:
    expected = {
        "a-fresh": (0.0, State.ACTIVE),
        "b-before-stale": (5.0, State.ACTIVE),
        "c-stale": (5.001, State.STALE),
        "d-before-lost": (60.0, State.STALE),
        "e-lost": (60.001, State.LOST),
        "f-before-forgotten": (60 + DAY, State.LOST),
        "g-forgotten": (60 + DAY + 0.001, State.FORGOTTEN),
        "h-just-ahead": (-5.0, State.ACTIVE),
        "i-ahead": (-5.001, State.STALE),
        "j-before-far-ahead": (-60.0, State.STALE),
        "k-far-ahead": (-60.001, State.LOST),
        "l-days-ahead": (-(60 + DAY + 0.001), State.LOST),
    }
    for node_id, (age, _) in expected.items():
        insert_worker(node_id, age)
    assert states(connection) == {node_id: state for node_id, (_, state) in expected.items()}


@pytest.mark.usefixtures("stopped_clock")
def test_the_thresholds_can_be_set(connection: Connection, insert_worker: Insert) -> None:
    for age in (1, 3, 5, 9):
        insert_worker(f"w{age}", age)
    thresholds = Thresholds(stale_after=2, lost_after=4, forget_after=4)
    assert states(connection, thresholds) == {
        "w1": State.ACTIVE,
        "w3": State.STALE,
        "w5": State.LOST,
        "w9": State.FORGOTTEN,
    }


@pytest.mark.usefixtures("stopped_clock")
def test_an_age_is_exact_and_taken_from_the_databases_clock(connection: Connection, insert_worker: Insert) -> None:
    insert_worker("past", 100.0)
    insert_worker("future", -100.0)
    ages = {
        worker["node_id"]: worker["heartbeat_age_seconds"] for worker in list_workers(connection, DEFAULT_THRESHOLDS)
    }
    assert ages == {"past": 100.0, "future": -100.0}


def test_no_age_is_negative_after_a_wait_for_a_lock(
    database: str, connection: Connection, sql: Callable[..., list[Any]], insert_worker: Insert
) -> None:
    """A read that waited for a lock must not compute ages from the moment at which its wait started."""
    insert_worker("w", 3600.0)
    locker = psycopg.connect(database, autocommit=True)
    locker.execute("BEGIN; LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
    ages: list[float] = []

    def read() -> None:
        ages.extend(worker["heartbeat_age_seconds"] for worker in list_workers(connection, DEFAULT_THRESHOLDS))

    reading = threading.Thread(target=read)
    reading.start()
    eventually(lambda: sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
    time.sleep(1.0)
    locker.execute("UPDATE workers SET heartbeat_at = clock_timestamp(); COMMIT")
    locker.close()
    reading.join()
    assert 0 <= ages[0] < 60


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize(
    ("info", "state"),
    [
        ('{"stopped_at": "2999-01-15T17:20:15+00:00"}', State.STOPPED),
        ('{"stopped_at": "2001-01-15T17:20:15+00:00"}', State.FORGOTTEN),
        ('{"stopped_at": "2001-01-15T17:20:15.123456-05:00"}', State.FORGOTTEN),
        ('{"stopped_at": "no timestamp"}', State.STOPPED),
        ('{"stopped_at": "2001-13-45T99:99:99+00:00"}', State.STOPPED),
        ('{"stopped_at": null}', State.STOPPED),
        ('{"stopped_at": "12:00:00"}', State.STOPPED),
        ('{"stopped_at": "12:00:00+02"}', State.STOPPED),
        ('{"stopped_at": "infinity"}', State.STOPPED),
        ('{"stopped_at": "2001-01-15"}', State.FORGOTTEN),
        ('{"stopped_at": "2001-01-15T17:20:15"}', State.FORGOTTEN),
        ('{"stopped_at": {"a": [1]}}', State.STOPPED),
        ('"stopped_at"', State.ACTIVE),
        ('["stopped_at"]', State.ACTIVE),
        ("null", State.ACTIVE),
    ],
)
def test_any_info_has_a_state(connection: Connection, insert_worker: Insert, info: str, state: State) -> None:
    insert_worker("w", 0.0, info)
    assert states(connection) == {"w": state}
    fleet = read(connection, frozenset(State))
    assert [group.state for group in fleet.groups] == [state]
    assert (members_of(fleet, (0, state)).stopped_at == "") == (state is State.ACTIVE)


@pytest.mark.parametrize(
    "info",
    ["[]", "null", "3", '"v1"', "{}", '{"version": null}', '{"version": 3}', '{"version": ["v"]}', '{"version": ""}'],
)
def test_fields_that_info_does_not_have_are_unknown(connection: Connection, insert_worker: Insert, info: str) -> None:
    insert_worker("w", 0.0, info)
    worker = get_worker(connection, "w", DEFAULT_THRESHOLDS)
    assert worker is not None
    assert set(worker["info"].values()) == {"unknown"}
    assert list(worker["info"]) == ["version", "commit_sha", "commit_timestamp", "build_date"]


def test_a_megabyte_of_info_is_read_whole_for_one_and_cut_for_a_fleet(
    connection: Connection, insert_worker: Insert
) -> None:
    insert_worker("w", 0.0, json.dumps({"version": "v" * 1_000_000, "other": "x" * 1000}))
    worker = get_worker(connection, "w", DEFAULT_THRESHOLDS)
    assert worker is not None
    assert len(worker["info"]["version"]) == 1_000_000
    fleet = read(connection)
    assert members_of(fleet, (0, State.ACTIVE)).builds[0][0] == "v" * 200
    assert fleet.details[0, State.ACTIVE].versions == {"v" * 200: 1}


def test_workers_are_ordered_byte_by_byte(connection: Connection, insert_worker: Insert) -> None:
    for node_id in ("b", "a-1", "a.1", "B", "a_1", "a1"):
        insert_worker(node_id)
    assert list(states(connection)) == sorted(["b", "a-1", "a.1", "B", "a_1", "a1"])


@pytest.mark.parametrize("column", ["heartbeat_at", "registered_at", "created_at"])
@pytest.mark.parametrize("moment", ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC", "0900-01-01"])
def test_a_timestamp_out_of_range_hides_no_worker(
    connection: Connection, sql: Callable[..., list[Any]], insert_worker: Insert, column: str, moment: str
) -> None:
    insert_worker("odd")
    insert_worker("w")
    sql(f"UPDATE workers SET {column} = %s WHERE node_id = 'odd'", moment)
    found = states(connection)
    assert found["w"] == State.ACTIVE
    assert set(found) == {"odd", "w"}
    fleet = read(connection, frozenset(State))
    assert sum(group.workers for group in fleet.groups) == 2
    assert all(abs(age) < 1e12 for group in fleet.groups for age in group.ages)
    if column == "registered_at":
        assert registration(connection, "odd") is not None


@pytest.mark.parametrize(
    "thresholds", [(float("nan"), 60, 60), (5, float("inf"), 60), (5, 60, 1e30), (-1, 60, 60), (100, 10, 60)]
)
def test_thresholds_that_contradict_themselves_are_refused(thresholds: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"a threshold is a number|cannot be lost before it is stale"):
        Thresholds(*thresholds)
