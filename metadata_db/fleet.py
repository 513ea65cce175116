"""The whole fleet at one moment, for the exporter: how many workers there are of each kind, and the workers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Row,
    Select,
    Text,
    func,
    literal_column,
    null,
    select,
    true,
    union_all,
)

from metadata_db.schema import (
    INFO_KEYS,
    Thresholds,
    database_clock,
    epoch,
    heartbeat_age,
    info_text,
    state,
    stopped_at,
    workers,
)

LABEL_LENGTH = 200
"""Characters of an `info` field that are read: it is anybody's to write, and may be a megabyte."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Workers that are alike in state, version and the bucket that their heartbeat age falls into."""

    state: str
    version: str
    bucket: int
    """How many of the bounds are smaller than the heartbeat age: 0 is the first bucket."""

    workers: int
    age_seconds: float
    """The sum of their heartbeat ages."""


@dataclass(frozen=True, slots=True)
class Member:
    """One worker of the fleet. Moments are Unix times in seconds."""

    node_id: str
    state: str
    heartbeat_age: float
    heartbeat_at: float
    registered_at: float
    created_at: float
    stopped_at: float | None
    info: tuple[str, ...]
    """`version`, `commit_sha`, `commit_timestamp` and `build_date`, `unknown` where the worker did not say."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """All of it, from one snapshot and one reading of the database's clock."""

    cohorts: Sequence[Cohort]
    members: Sequence[Member]


def read_fleet(
    connection: Connection, thresholds: Thresholds, age_bounds: Sequence[float], member_states: Collection[str]
) -> Fleet:
    """Return every cohort, and the members that are in one of the given states.

    One statement, so that both are of one snapshot and one reading of the clock. It is READ COMMITTED, in which
    PostgreSQL takes the snapshot after it has waited for the table's lock; a REPEATABLE READ transaction takes it
    before, and would show the heartbeats of a minute ago with the age of now.
    """
    clock = database_clock(thresholds)
    selects = [_select_cohorts(clock, age_bounds)]
    if member_states:
        selects.append(_select_members(clock, member_states))
    rows = connection.execute(union_all(*selects)).all()
    return Fleet(
        cohorts=[Cohort(row.state, row.version, row.bucket, row.workers, row.age) for row in rows if row.workers],
        members=[_member(row) for row in rows if not row.workers],
    )


def _select_cohorts(clock: CTE, age_bounds: Sequence[float]) -> Select[Any]:
    age = heartbeat_age(clock)
    worker = (
        select(
            state(clock).label("state"),
            _label("version").label("version"),
            # width_bucket counts the bounds that are less than or equal; a Prometheus bucket holds its own bound.
            (len(age_bounds) - func.width_bucket(-age, _negated(age_bounds))).label("bucket"),
            age.label("age"),
        )
        .select_from(workers.join(clock, true()))
        .subquery("worker")
    )
    nothing = null()
    return select(
        nothing.cast(Text).label("node_id"),
        worker.c.state,
        worker.c.version,
        worker.c.bucket,
        func.count().label("workers"),
        func.sum(worker.c.age).label("age"),
        *(nothing.cast(Double).label(name) for name in _MOMENTS),
        *(nothing.cast(Text).label(key) for key in INFO_KEYS if key != "version"),
    ).group_by(worker.c.state, worker.c.version, worker.c.bucket)


def _select_members(clock: CTE, states: Collection[str]) -> Select[Any]:
    return (
        select(
            workers.c.node_id,
            state(clock).label("state"),
            _label("version").label("version"),
            null().cast(Integer).label("bucket"),
            null().cast(BigInteger).label("workers"),
            heartbeat_age(clock).label("age"),
            epoch(workers.c.heartbeat_at),
            epoch(workers.c.registered_at),
            epoch(workers.c.created_at),
            epoch(stopped_at()),
            *(_label(key) for key in INFO_KEYS if key != "version"),
        )
        .select_from(workers.join(clock, true()))
        .where(state(clock).in_(sorted(states)))
    )


_MOMENTS = ("heartbeat_at", "registered_at", "created_at", "stopped_at")


def _label(key: str) -> ColumnElement[str]:
    return func.left(info_text(key), LABEL_LENGTH)


def _negated(bounds: Sequence[float]) -> ColumnElement[Any]:
    numbers = ", ".join(str(-float(bound)) for bound in reversed(bounds))
    return literal_column(f"ARRAY[{numbers}]::float8[]")


def _member(row: Row[Any]) -> Member:
    return Member(
        node_id=row.node_id,
        state=row.state,
        heartbeat_age=row.age,
        heartbeat_at=row.heartbeat_at,
        registered_at=row.registered_at,
        created_at=row.created_at,
        stopped_at=row.stopped_at,
        info=tuple(row._mapping[key] for key in INFO_KEYS),
    )
