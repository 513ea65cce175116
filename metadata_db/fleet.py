"""The whole fleet at one moment, for the exporter, and only what has changed of it since the last time.

Of 100,000 workers all beat between two scrapes, but hardly one has registered, stopped or come back. The workers are
read in groups, each of a few hundred that are in the same state. Of each group come the heartbeats, which are new
every time, and a fingerprint of all else; who knows the fingerprint from before needs no more. The details come for
the groups that are new or have changed, in the same snapshot.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Row,
    Select,
    Text,
    any_,
    bindparam,
    case,
    cast,
    column,
    extract,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from amp_workers.metadata_db.engine import transaction
from amp_workers.metadata_db.jobs import Jobs, JobsLog, read_jobs
from amp_workers.metadata_db.schema import (
    INFO_KEYS,
    STATES,
    Clock,
    State,
    Thresholds,
    clock_at,
    constant,
    exit_code,
    failure,
    info_text,
    moment,
    progress_age,
    settled_info,
    state,
    state_number,
    stopped_at,
    watchdog_seconds,
    workers,
)

LABEL_LENGTH = 200
"""Characters of an `info` field that are read: it is anybody's to write, and may be a megabyte."""

_GROUP_BITS = 10

GROUP_SIZE = 2**_GROUP_BITS
"""Ids in a group: small, so that one worker that restarts has few others read again; large, so that there are few."""

Key = tuple[int, str]
"""A group: its number (the ids divided by GROUP_SIZE), and its state."""


_BATCH_WORKERS = 8 * GROUP_SIZE
"""Of which the details are read together."""

_HASH_AND_NOT_SORT = "SET LOCAL enable_sort = off; SET LOCAL parallel_tuple_cost = 0"
"""PostgreSQL cannot know that many ids fall into few groups, and would sort a million rows to group them."""

RECENT_SECONDS = 3600.0

RUNNING = (State.ACTIVE, State.STUCK, State.STALE)
"""The states of workers whose versions are counted."""


@dataclass(frozen=True, slots=True)
class Group:
    """Workers of neighbouring ids that are in the same state."""

    number: int
    state: str
    workers: int
    distance_sum: float
    """The sum of the distances of their heartbeats from now, in seconds. Distances, so that a heartbeat from the
    future and one from the past do not cancel out."""

    distance_max: float
    """The largest of these distances, in seconds."""

    buckets: tuple[int, ...]
    """How many of them have a distance above the bound before and up to each of the bounds."""

    fingerprint: str
    """Changes when anything but a heartbeat does: who they are, their registrations, their info."""

    ages: str | None
    """The heartbeat ages in seconds, separated by spaces, in the order of `Details.members`; negative where the
    heartbeat lies in the future. None in a state whose members are not asked for."""

    heartbeats: str | None
    """The last heartbeats as Unix times, likewise."""

    progress_ages: str | None
    """The seconds since each last reported progress, likewise; nothing stands for one that did not. None where nobody
    did."""

    failed_recently: int
    """How many of them failed at most RECENT_SECONDS ago."""

    @property
    def key(self) -> Key:
        return self.number, self.state


@dataclass(frozen=True, slots=True)
class Members:
    """The workers of a group, without their heartbeats, column by column: one object a worker takes longer to make.

    A text holds one value for each worker, separated by spaces, as `Group.ages` does. Moments are Unix times.
    """

    node_ids: Sequence[str]
    registered_at: str
    created_at: str
    stopped_at: str
    exit_codes: str
    watchdog_seconds: str
    failures: Sequence[str | None]
    builds: Sequence[tuple[str, ...]]
    """`version`, `commit_sha`, `commit_timestamp` and `build_date` of each, `unknown` where it is absent."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The fleet at one moment."""

    groups: Sequence[Group]
    jobs: Jobs | None
    """None where they are unknown."""


@dataclass(frozen=True, slots=True)
class Details:
    """What is behind a group's fingerprint."""

    versions: Mapping[str, int]
    """How many workers of the group there are of each version."""

    members: Members | None
    """None in a state whose members are not asked for."""


Learn = Callable[[Group, Details], None]
"""Is told the details of a group, a few groups at a time, so that those of a large fleet are never all in memory."""


def read_fleet(
    connection: Connection,
    thresholds: Thresholds,
    age_bounds: Sequence[float],
    member_states: Collection[str],
    known: Mapping[Key, str],
    learn: Learn,
    jobs_log: JobsLog,
) -> Fleet:
    """Return the fleet, from one snapshot and one reading of the database's clock.

    age_bounds: the upper bounds of `Group.buckets`, in seconds, ascending. member_states: the states whose workers are
    returned one by one. known: the fingerprints that the caller knows. learn: is called with each group whose
    fingerprint is another. jobs_log: is told where jobs are unknown.
    """
    with _one_snapshot(connection):
        if not _most_are_members(member_states):
            connection.exec_driver_sql(_HASH_AND_NOT_SORT)
        now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        clock = clock_at(now, thresholds)
        groups = _read_groups(connection, clock, now, age_bounds, member_states)
        unknown = [group for group in groups if known.get(group.key) != group.fingerprint]
        _learn_members(connection, clock, [group for group in unknown if group.state in member_states], learn)
        _learn_versions(connection, clock, [group for group in unknown if group.state not in member_states], learn)
        jobs = None
        with jobs_log.suppressing():
            jobs = read_jobs(connection, clock)
        if jobs is not None:
            jobs_log.note_statuses(jobs)
    return Fleet(groups, jobs)


@contextmanager
def _one_snapshot(connection: Connection) -> Iterator[None]:
    """Have all statements see the same rows.

    A REPEATABLE READ transaction takes its snapshot with its first query, even if that then waits for the table's
    lock: it would show the heartbeats of before with the age of after. LOCK TABLE waits without taking a snapshot.
    """
    with transaction(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
        connection.exec_driver_sql("LOCK TABLE workers IN ACCESS SHARE MODE")
        yield


def _read_groups(
    connection: Connection,
    clock: Clock,
    now: datetime,
    age_bounds: Sequence[float],
    member_states: Collection[str],
) -> list[Group]:
    beat = moment(workers.c.heartbeat_at)
    worker = select(
        workers.c.id,
        _group_number().label("number"),
        extract("epoch", beat).label("beat"),
        extract("epoch", clock.now - beat).label("age"),
        state_number(clock).label("state"),
        _bucket(now, age_bounds).label("bucket"),
        progress_age(clock).label("progress_age"),
        stopped_at().label("stopped_at"),
        # The id is the seed of each hash, so that two workers that are alike do not cancel each other out.
        func.hash_record_extended(
            func.row(workers.c.node_id, settled_info(), workers.c.registered_at, workers.c.created_at), workers.c.id
        ).label("hash"),
    )
    ordered = _most_are_members(member_states)
    if ordered:
        # In one order every time, that of `_read_members`. Sorted as they are grouped, since a sort for the grouping
        # alone would leave the ids in any order.
        worker = worker.order_by(text("number"), text("state"), workers.c.id)
    each = worker.subquery("worker")
    is_member = each.c.state.in_([_number(each_state) for each_state in sorted(member_states)])
    distance = func.abs(each.c.age)
    progress_ages = func.string_agg(func.coalesce(cast(each.c.progress_age, Text), constant("")), " ").filter(is_member)
    failed_at = case((each.c.state == _number(State.FAILED), each.c.stopped_at), else_=None)
    rows = connection.execute(
        select(
            each.c.number,
            each.c.state,
            func.count().label("workers"),
            # Seconds, and not intervals: a sum of many that are thousands of years long is out of their range.
            cast(func.sum(distance), Double).label("distance_sum"),
            cast(func.max(distance), Double).label("distance_max"),
            func.bit_xor(each.c.hash).filter(each.c.state != _number(State.FORGOTTEN)).label("hash"),
            *(
                func.string_agg(cast(value, Text), " ").filter(is_member).label(name)
                for name, value in (("ages", each.c.age), ("beats", each.c.beat))
            ),
            case((func.count(each.c.progress_age) > constant(0), progress_ages), else_=None),
            func.count().filter(failed_at >= literal(now - timedelta(seconds=RECENT_SECONDS))),
            *([] if ordered else [func.string_agg(cast(each.c.id, Text), " ").filter(is_member)]),
            *(func.count().filter(each.c.bucket == constant(index)) for index in range(len(age_bounds))),
        ).group_by(each.c.number, each.c.state)
    )
    return [_group(row, ordered=ordered) for row in rows]


def _group(row: Sequence[Any], *, ordered: bool) -> Group:
    number, its_state, count, distance_sum, distance_max, hash_, ages, beats, progress, failed, *others = row
    if not ordered:
        ids, *others = others
        if ids is not None:
            order = sorted(range(count), key=list(map(int, ids.split())).__getitem__)
            ages, beats, progress = (_reordered(values, order) for values in (ages, beats, progress))
    return Group(
        number=number,
        state=STATES[its_state],
        workers=count,
        distance_sum=distance_sum,
        distance_max=distance_max,
        buckets=tuple(others),
        fingerprint=f"{count} {hash_}",
        ages=ages,
        heartbeats=beats,
        progress_ages=progress,
        failed_recently=failed,
    )


def _reordered(values: str | None, order: Sequence[int]) -> str | None:
    if values is None:
        return None
    each = values.split(" ")
    return " ".join(each[index] for index in order)


def _bucket(now: datetime, age_bounds: Sequence[float]) -> ColumnElement[int]:
    """The index of the first bound that a heartbeat's distance is within; null where there is none.

    One CASE, which ends at the first comparison for most workers: to compare the heartbeat with every bound takes twice
    as long.
    """
    return case(
        *((_is_within(now, timedelta(seconds=bound)), constant(index)) for index, bound in enumerate(age_bounds)),
        else_=None,
    )


def _is_within(now: datetime, distance: timedelta) -> ColumnElement[bool]:
    return workers.c.heartbeat_at.between(literal(now - distance), literal(now + distance))


def _most_are_members(member_states: Collection[str]) -> bool:
    return State.ACTIVE in member_states


def _learn_members(connection: Connection, clock: Clock, groups: Sequence[Group], learn: Learn) -> None:
    statement = _select_members(clock)
    for batch in _batches(groups):
        asked = {group.key: group for group in batch}
        keys = {"numbers": sorted({key[0] for key in asked}), "states": [STATES.index(State(key[1])) for key in asked]}
        for row in connection.execute(statement, keys):
            group = asked.get((row.number, STATES[row.state]))
            if group is not None:
                learn(group, _details(row))


def _details(row: Row[Any]) -> Details:
    builds = zip(*(getattr(row, key) for key in INFO_KEYS), strict=True)
    members = Members(
        node_ids=row.node_id,
        registered_at=row.registered_at,
        created_at=row.created_at,
        stopped_at=row.stopped_at,
        exit_codes=row.exit_code,
        watchdog_seconds=row.watchdog_seconds,
        failures=row.failure,
        builds=list(builds),
    )
    return Details(Counter(row.version), members)


def _batches(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Groups that are read together: few where they are full, many where each has few workers."""
    batch: list[Group] = []
    for group in groups:
        if batch and sum(each.workers for each in batch) + group.workers > _BATCH_WORKERS:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _learn_versions(connection: Connection, clock: Clock, groups: Sequence[Group], learn: Learn) -> None:
    running = [group.key for group in groups if group.state in RUNNING]
    versions = _read_versions(connection, clock, running) if running else {}
    for group in groups:
        learn(group, Details(versions.get(group.key, {}), None))


def _select_members(clock: Clock) -> Select[Any]:
    """A row for each group of `numbers` that is in one of `states`, its members in the order of their ids.

    Built once for all batches: SQLAlchemy takes longer to build it than PostgreSQL to run it for one.
    """
    wanted = (
        func.unnest(bindparam("numbers", type_=ARRAY(BigInteger)))
        .table_valued(column("number", BigInteger), name="wanted")
        .render_derived()
    )
    first = wanted.c.number.op("<<")(constant(_GROUP_BITS))
    texts = {
        "registered_at": _unix_time(moment(workers.c.registered_at)),
        "created_at": _unix_time(moment(workers.c.created_at)),
        "stopped_at": _unix_time(stopped_at()),
        "exit_code": cast(exit_code(), Text),
        "watchdog_seconds": cast(watchdog_seconds(), Text),
    }
    arrays = {
        "node_id": workers.c.node_id,
        "failure": failure(),
        **{key: func.left(info_text(key), LABEL_LENGTH) for key in INFO_KEYS},
    }
    each = (
        select(
            wanted.c.number,
            state_number(clock).label("state"),
            *(value.label(name) for name, value in (texts | arrays).items()),
        )
        .join_from(wanted, workers, workers.c.id.between(first, first + constant(GROUP_SIZE - 1)))
        .where(state_number(clock) == any_(bindparam("states", type_=ARRAY(Integer))))
        .order_by(wanted.c.number, text("state"), workers.c.id)
        .subquery("worker")
    )
    return select(
        each.c.number,
        each.c.state,
        *(func.string_agg(func.coalesce(each.c[name], constant("")), constant(" ")).label(name) for name in texts),
        # Of one dimension, so that SQLAlchemy does not look at each element.
        *(func.array_agg(each.c[name], type_=ARRAY(Text, dimensions=1)).label(name) for name in arrays),
    ).group_by(each.c.number, each.c.state)


def _read_versions(connection: Connection, clock: Clock, keys: Sequence[Key]) -> dict[Key, dict[str, int]]:
    """Return how many workers of each version are in each group, without reading one by one."""
    worker = (
        select(
            _group_number().label("number"),
            state(clock).label("state"),
            func.left(info_text("version"), LABEL_LENGTH).label("version"),
        )
        .where(_group_number() == any_(literal(sorted({key[0] for key in keys}), ARRAY(BigInteger))))
        .subquery("worker")
    )
    columns = (worker.c.number, worker.c.state, worker.c.version)
    versions: dict[Key, dict[str, int]] = {}
    counts = select(*columns, func.count()).where(worker.c.state.in_(RUNNING)).group_by(*columns)
    for number, its_state, version, count in connection.execute(counts):
        versions.setdefault((number, its_state), {})[version] = count
    return versions


def _number(its_state: str) -> ColumnElement[int]:
    return constant(STATES.index(State(its_state)))


def _unix_time(when: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(extract("epoch", when), Text)


def _group_number() -> ColumnElement[int]:
    return workers.c.id.op(">>")(constant(_GROUP_BITS))
