import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection

from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    Details,
    Group,
    JobsLog,
    Key,
    Members,
    MetadataDbUrl,
    State,
    connect,
    list_workers,
    mark_stopped,
    read_fleet,
    single_engine,
)
from amp_workers.metadata_db.fleet_key import GROUP_SIZE
from tests.conftest import Insert
from tests.metadata_db.registering import enter

pytestmark = pytest.mark.slow

DAY = 86_400.0
ALL = frozenset(State) - {State.FORGOTTEN}

Sql = Callable[..., list[Any]]


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with connect(single_engine(MetadataDbUrl.parse(database), "test", statement_timeout=5), 5) as opened:
        yield opened


@dataclass
class Fleet:
    """The result of one read, and the details that it read."""

    groups: list[Group]
    details: dict[Key, Details]


class Kept:
    """Keeps the fingerprints of an earlier read, and the details of this one."""

    def __init__(self, known: Fleet | None) -> None:
        self._fingerprints = {} if known is None else {group.key: group.fingerprint for group in known.groups}
        self.details: dict[Key, Details] = {}

    def fingerprint(self, key: Key) -> str | None:
        return self._fingerprints.get(key)

    def node_hashes(self, key: Key) -> Collection[int]:
        return self.details[key].node_hashes

    def keep(self, group: Group, details: Details) -> None:
        self.details[group.key] = details


def read(connection: Connection, members: frozenset[State] = ALL, known: Fleet | None = None) -> Fleet:
    kept = Kept(known)
    fleet = read_fleet(connection, DEFAULT_THRESHOLDS, members, kept, JobsLog())
    return Fleet(list(fleet.groups), kept.details)


def members_of(fleet: Fleet, key: Key) -> Members:
    members = fleet.details[key].members
    assert members is not None
    return members


def node_ids(fleet: Fleet) -> dict[Key, list[str]]:
    return {key: [] if each.members is None else list(each.members.node_ids) for key, each in fleet.details.items()}


def test_an_empty_fleet(connection: Connection) -> None:
    assert read(connection) == Fleet([], {})


@pytest.mark.usefixtures("stopped_clock")
def test_the_groups_add_up(connection: Connection, insert_worker: Insert) -> None:
    for number, age in enumerate((0.2, 0.4, 3.0, 30.0, 600.0, 2 * DAY)):
        insert_worker(f"w{number}", age, json.dumps({"version": f"v{number % 2}"}))
    insert_worker("stopped", 10.0, '{"stopped_at": "2999-01-15T17:20:15+00:00"}')
    fleet = read(connection)
    groups = {group.state: group for group in fleet.groups}
    assert {state: group.workers for state, group in groups.items()} == {
        "active": 3,
        "stale": 1,
        "lost": 1,
        "stopped": 1,
        "forgotten": 1,
    }
    assert {state: list(group.ages) for state, group in groups.items()} == {
        "active": [0.2, 0.4, 3.0],
        "stale": [30.0],
        "lost": [600.0],
        "stopped": [],
        "forgotten": [],
    }
    assert fleet.details[0, "active"].versions == {"v0": 2, "v1": 1}
    assert node_ids(fleet)[0, "active"] == ["w0", "w1", "w2"]
    assert list(groups["forgotten"].heartbeats) == []
    assert node_ids(fleet)[0, "forgotten"] == []


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize("moment", ["infinity", "-infinity", "294276-12-31", "4713-01-01 BC"])
def test_timestamps_out_of_range_hide_no_worker(
    connection: Connection, insert_worker: Insert, sql: Sql, moment: str
) -> None:
    insert_worker("w", 1.0)
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) "
        "SELECT 'odd' || g, %s, now(), now() FROM generate_series(1, %s) g",
        moment,
        GROUP_SIZE - 2,
    )
    for members in (ALL, frozenset({State.STALE, State.LOST})):
        groups = {group.state: group for group in read(connection, members).groups}
        assert sum(group.workers for group in groups.values()) == GROUP_SIZE - 1
        assert list(groups["active"].ages) == [1]
        if moment in {"infinity", "294276-12-31"}:
            assert set(groups["lost"].ages) == {groups["lost"].ages[0]}
            assert -1e12 < groups["lost"].ages[0] < 0
        else:
            assert groups["forgotten"].workers == GROUP_SIZE - 2


def test_ages_and_heartbeats_use_one_clock_and_the_order_of_the_members(
    connection: Connection, insert_worker: Insert, sql: Sql
) -> None:
    for number in (3, 1, 2):
        insert_worker(f"w{number}", 100.0 * number)
    sql("UPDATE workers SET heartbeat_at = heartbeat_at WHERE node_id = 'w3'")  # moves it to the end of the table
    fleet = read(connection)
    (group,) = (group for group in fleet.groups if group.state == "lost")
    assert [round(age, -2) for age in group.ages] == [300, 100, 200]
    assert node_ids(fleet)[group.key] == ["w3", "w1", "w2"]
    # In microseconds, as PostgreSQL stores them: sums of floats differ slightly.
    now = {round(1e6 * age) + round(1e6 * sent) for age, sent in zip(group.ages, group.heartbeats, strict=True)}
    assert len(now) == 1


def test_details_are_read_once(connection: Connection, insert_worker: Insert, sql: Sql) -> None:
    for number in range(5):
        insert_worker(f"w{number}")
    first = read(connection)
    sql("UPDATE workers SET heartbeat_at = clock_timestamp()")
    second = read(connection, known=first)
    assert second.details == {}
    assert [group.fingerprint for group in second.groups] == [group.fingerprint for group in first.groups]
    assert [group.heartbeats for group in second.groups] != [group.heartbeats for group in first.groups]


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE workers SET registered_at = now() WHERE node_id = 'w1'",
        "UPDATE workers SET created_at = now() WHERE node_id = 'w1'",
        "UPDATE workers SET created_at = now(), registered_at = now() WHERE node_id = 'w1'",
        "UPDATE workers SET created_at = now() - interval '1 h', registered_at = now() - interval '1 h'",
        "UPDATE workers SET info = '{\"version\": \"by hand\"}' WHERE node_id = 'w1'",
        "UPDATE workers SET node_id = 'renamed' WHERE node_id = 'w1'",
        "DELETE FROM workers WHERE node_id = 'w1'",
        "INSERT INTO workers VALUES (DEFAULT, 'new', now(), '{}', now(), now())",
        "UPDATE workers SET heartbeat_at = now() - interval '30 s' WHERE node_id = 'w1'",
    ],
)
def test_details_are_read_again_after_every_change(
    connection: Connection, insert_worker: Insert, sql: Sql, change: str
) -> None:
    for number in range(5):
        insert_worker(f"w{number}")
    sql("UPDATE workers SET created_at = registered_at")
    first = read(connection)
    sql(change)
    again = read(connection, known=first)
    assert again.details != {}
    # The details are the same as those of a first read.
    afresh = read(connection)
    assert again.details == {key: afresh.details[key] for key in again.details}


@pytest.mark.usefixtures("stopped_clock")
def test_two_workers_swap_their_info(connection: Connection, insert_worker: Insert, sql: Sql) -> None:
    insert_worker("a", 0, '{"version": "v1"}')
    insert_worker("b", 0, '{"version": "v2"}')
    first = read(connection)
    sql("UPDATE workers SET info = jsonb_build_object('version', CASE node_id WHEN 'a' THEN 'v2' ELSE 'v1' END)")
    assert read(connection, known=first).details != {}


def test_a_worker_that_stops_and_registers_again_changes_its_group(connection: Connection) -> None:
    fence = enter(connection, "w", {"version": "v1"})
    active = read(connection)
    assert mark_stopped(connection, "w", fence)
    stopped = read(connection, known=active)
    assert [group.state for group in stopped.groups] == ["stopped"]
    assert float(members_of(stopped, (0, "stopped")).stopped_at) > 0
    enter(connection, "w", {"version": "v2"})
    assert read(connection, known=stopped).details[0, "active"].versions == {"v2": 1}


def test_the_details_of_the_changed_group_alone_are_read(connection: Connection, sql: Sql) -> None:
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) "
        "SELECT 'w' || g, clock_timestamp(), now(), now() FROM generate_series(1, %s) g",
        GROUP_SIZE * 4,
    )
    first = read(connection)
    assert sum(group.workers for group in first.groups) == GROUP_SIZE * 4
    sql("UPDATE workers SET registered_at = now() WHERE id = %s", GROUP_SIZE + 7)
    assert set(read(connection, known=first).details) == {(1, "active")}


@pytest.mark.usefixtures("stopped_clock")
def test_versions_are_counted_where_members_are_not_read(connection: Connection, insert_worker: Insert) -> None:
    insert_worker("a", 0, '{"version": "v1"}')
    insert_worker("b", 0, '{"version": "v1"}')
    insert_worker("c", 30, '{"version": "v2"}')
    insert_worker("d", 600, '{"version": "v3"}')
    unhealthy = read(connection, frozenset({State.STALE, State.LOST}))
    assert node_ids(unhealthy) == {(0, "active"): [], (0, "stale"): ["c"], (0, "lost"): ["d"]}
    assert unhealthy.details[0, "active"].versions == {"v1": 2}
    nobody = read(connection, frozenset())
    assert {key: dict(details.versions) for key, details in nobody.details.items()} == {
        (0, "active"): {"v1": 2},
        (0, "stale"): {"v2": 1},
        (0, "lost"): {},
    }
    assert all(len(group.heartbeats) == 0 for group in nobody.groups)


def test_a_forgotten_worker_registers_again(connection: Connection, insert_worker: Insert) -> None:
    insert_worker("w", 2 * DAY)
    forgotten = read(connection)
    assert node_ids(forgotten) == {(0, "forgotten"): []}
    enter(connection, "w", {})
    assert node_ids(read(connection, known=forgotten)) == {(0, "active"): ["w"]}


def test_new_progress_does_not_cause_details_to_be_read_again(
    connection: Connection, sql: Sql, insert_worker: Insert
) -> None:
    for number in range(20):
        insert_worker(f"w{number}", info='{"version": "v1", "progress": "block 0", "progress_at": "2025-01-15"}')
    first = read(connection)
    assert len(first.details) == 1
    sql("UPDATE workers SET info = info || jsonb_build_object('progress', 'block 1', 'progress_at', now())")
    again = read(connection, known=first)
    assert again.details == {}
    assert first.groups[0].progress_ages != again.groups[0].progress_ages
    sql("UPDATE workers SET info = info || '{\"version\": \"v2\"}' WHERE node_id = 'w7'")
    assert len(read(connection, known=again).details) == 1


PROGRESS_AT = {
    "as PostgreSQL writes it": "2025-01-15T17:20:15.123456+00:00",
    "with less digits": "2025-01-15T17:20:15.12+00:00",
    "whole seconds": "2025-01-15T17:20:15+00:00",
    "another zone": "2025-01-15T18:20:15.123456+01:00",
    "zulu": "2025-01-15T17:20:15Z",
    "a date": "2025-01-15",
    "a year before 2000": "1999-12-31T23:59:59.5+00:00",
    "the last year": "9999-12-29T23:59:59.999999+00:00",
    "no such month": "2025-13-15T17:20:15.123456+00:00",
    "no such day": "2025-02-30T17:20:15.123456+00:00",
    "no such second": "2025-01-15T17:20:61.123456+00:00",
    "no digits": "2abc-de-fgThi:jk:lm.nopqrs+00:00",
    "not ASCII": "2\uff1025-01-15T17:20:15.123456+00:00",
    "two zones": "2025-01-15T17:20:15.1+00:00+00:00",
    "too many digits": "2025-01-15T17:20:15.1234567890123456789012345678901234567890+00:00",
    "in the minute of the others": "2025-06-01T12:00:59.999999+00:00",
    "in their minute, whole seconds": "2025-06-01T12:00:07+00:00",
    "in their minute, one digit": "2025-06-01T12:00:5.5+00:00",
    "in their minute, three digits": "2025-06-01T12:00:005.5+00:00",
    "in their minute, no digits": "2025-06-01T12:00:+00:00",
    "in their minute, a leap second": "2025-06-01T12:00:60+00:00",
    "in their minute, no such second": "2025-06-01T12:00:75.5+00:00",
    "in their minute, an exponent": "2025-06-01T12:00:1e1+00:00",
    "in their minute, two numbers": "2025-06-01T12:00:15.5,16.5+00:00",
    "in their minute, no zone": "2025-06-01T12:00:15.5",
    "in their minute, a space": "2025-06-01T12:00:15.5 +00:00",
    "in their minute, many digits": "2025-06-01T12:00:15.12345678901234567890+00:00",
    "in their minute, as two are joined": "2025-06-01T12:00:15e6,116+00:00",
    "in their minute, a quote from one to the next": '2025-06-01T12:00:15e6,",115+00:00',
    "in their minute, a list from one to the next": "2025-06-01T12:00:15e6,[2],115+00:00",
    "as the minutes of two are joined": "e6,1",
    "the end of a moment alone": "+00:00",
    "so short that the next line is in the first minute": "7+00:00\n7",
    "in their minute, a seventh digit that is zero": "2025-06-01T12:00:15.1234560+00:00",
    "no fraction after the point": "2025-01-15T17:20:15.+00:00",
    "twenty-four hours": "2025-01-15T24:00:00.123456+00:00",
    "two lines": "2025-01-15T17:20:15.123456+00:00\n2025-01-15T17:20:15.123456+00:00",
    "a line feed at the end": "2025-01-15T17:20:15.123456+00:00\n",
    "another zone of the same length": "2025-01-15T17:20:15.123456+05:00",
    "nothing": "",
    "a line feed": "2025-01-15T17:20\n15.123456+00:00",
    "a number": 5,
    "an object": {"progress_at": "2025-01-15T17:20:15.123456+00:00"},
    "null": None,
}


@pytest.mark.parametrize(
    "fleet", ["usual odd none usual", "odd usual none odd usual", "none odd usual odd none", "odd usual odd"]
)
@pytest.mark.parametrize("odd", PROGRESS_AT.values(), ids=PROGRESS_AT.keys())
def test_progress_ages_agree_with_the_admin_api(
    connection: Connection, insert_worker: Insert, odd: object, fleet: str
) -> None:
    """For each worker, whatever was written into the row between the two reads."""
    infos = {"usual": {"progress_at": "2025-06-01T12:00:00.5+00:00"}, "odd": {"progress_at": odd}, "none": {}}
    for number, kind in enumerate(fleet.split()):
        insert_worker(f"w{number}", info=json.dumps(infos[kind]))
    (group,) = read(connection).groups
    now = datetime.fromtimestamp(group.heartbeats[0] + group.ages[0], UTC)
    shown = [worker["progress_at"] for worker in list_workers(connection, DEFAULT_THRESHOLDS)]
    for age, moment in zip(group.progress_ages, shown, strict=True):
        if moment is None:
            assert age is None
        else:
            assert age is not None
            assert 0 <= (now - datetime.fromisoformat(moment)).total_seconds() - age <= 1
