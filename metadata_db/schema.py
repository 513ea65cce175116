"""The `workers` table, and the state of a worker. The table is Amp's: its shape is not ours to change."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Double,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    case,
    cast,
    extract,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

workers = Table(
    "workers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("node_id", Text, nullable=False, unique=True),
    Column("heartbeat_at", DateTime(timezone=True), nullable=False),
    Column("info", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("registered_at", DateTime(timezone=True), nullable=False),
    # A heartbeat leaves room for the next on the same page, so that an update touches no index (a HOT update).
    postgresql_with={"fillfactor": 50},
)

# A day within Python's bounds: the server may show them in its own time zone.
_EARLIEST = "timestamptz '0001-01-02 00:00:00+00'"
_LATEST = "timestamptz '9999-12-30 00:00:00+00'"

# A time of day alone is a datetime to jsonpath, but no moment.
_STOPPED_AT = '$.stopped_at.datetime() ? (@.type() starts with "timestamp" || @.type() == "date")'

INFO_KEYS = ("version", "commit_sha", "commit_timestamp", "build_date")
UNKNOWN = "unknown"


class State(StrEnum):
    """What can be said of a worker from its row alone."""

    ACTIVE = "active"
    STALE = "stale"
    LOST = "lost"
    STOPPED = "stopped"
    FORGOTTEN = "forgotten"


STATES = tuple(State)


@dataclass(frozen=True)
class Thresholds:
    """Seconds after which a worker that is silent changes its state."""

    stale_after: float = 5.0
    """Of the heartbeat's distance from now: a worker that is further away is stale."""

    lost_after: float = 60.0
    """Of the heartbeat's distance from now: a worker that is further away is lost."""

    forget_after: float = 86_400.0
    """Of being lost or stopped: a worker that is either for longer than this is forgotten."""

    def __post_init__(self) -> None:
        """Raise ValueError where the thresholds contradict themselves."""
        longest = 1e9
        if not all(0 <= seconds <= longest for seconds in (self.stale_after, self.lost_after, self.forget_after)):
            raise ValueError("a threshold is a number of seconds from 0 to 1,000,000,000")
        if self.lost_after < self.stale_after:
            raise ValueError("a worker cannot be lost before it is stale")


DEFAULT_THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Clock:
    """One reading of the database's clock, and the moments around it at which a worker changes its state.

    A worker is stale before or after the stale moments, and lost before or after the lost ones: a heartbeat from the
    future is no proof of life. It is forgotten before a moment only.
    """

    now: ColumnElement[datetime]
    stale_before: ColumnElement[datetime]
    stale_after: ColumnElement[datetime]
    lost_before: ColumnElement[datetime]
    lost_after: ColumnElement[datetime]
    silent_forgotten_before: ColumnElement[datetime]
    stopped_forgotten_before: ColumnElement[datetime]


def clock_of(statement: CTE) -> Clock:
    """Return the clock that a `clock_reading` in the same statement reads."""
    return Clock(**{field.name: statement.c[field.name] for field in fields(Clock)})


def clock_at(now: datetime, thresholds: Thresholds) -> Clock:
    """Return a clock that was read before, in the same snapshot: several statements then agree on it."""
    moments = _moments(now, thresholds, timedelta(seconds=1))
    return Clock(**{name: literal(moment, DateTime(timezone=True)) for name, moment in moments.items()})


def clock_reading(thresholds: Thresholds) -> CTE:
    """Return a CTE of one row, which reads the clock: for a select that joins it to `workers`.

    Not `now()`: that is the time at which the statement arrived, and a statement that then waits for a lock sees
    heartbeats written long after it, which would come out younger than nothing. This clock is read when the
    statement already has its snapshot: no heartbeat that it sees can be later, unless a writer's clock is wrong.
    """
    # clock_timestamp() is volatile, so PostgreSQL does not fold this CTE into the query: it is read once.
    reading = select(func.clock_timestamp().label("now")).cte("reading")
    second = func.make_interval(0, 0, 0, 0, 0, 0, 1)
    moments = _moments(reading.c.now, thresholds, second)
    return select(*(moment.label(name) for name, moment in moments.items())).cte("clock")


def clock_of_each_row(thresholds: Thresholds) -> Clock:
    """Return a clock that is read anew for each row, and again where PostgreSQL looks at a row once more.

    For a `DELETE`: it may wait for a heartbeat that holds the row's lock. Against a reading from before the wait, the
    new heartbeat lies in the future.
    """
    second = func.make_interval(0, 0, 0, 0, 0, 0, 1)
    return Clock(**_moments(func.clock_timestamp(), thresholds, second))


def _moments(now: Any, thresholds: Thresholds, second: Any) -> dict[str, Any]:
    return {
        "now": now,
        "stale_before": now - thresholds.stale_after * second,
        "stale_after": now + thresholds.stale_after * second,
        "lost_before": now - thresholds.lost_after * second,
        "lost_after": now + thresholds.lost_after * second,
        "silent_forgotten_before": now - (thresholds.lost_after + thresholds.forget_after) * second,
        "stopped_forgotten_before": now - thresholds.forget_after * second,
    }


def state(clock: Clock) -> ColumnElement[str]:
    """A worker's state, one of `State`."""
    return _state(clock, constant)


def state_number(clock: Clock) -> ColumnElement[int]:
    """A worker's state as its place in STATES: a million of these are compared in half the time that texts take."""
    return _state(clock, lambda each: constant(STATES.index(each)))


def _state(clock: Clock, shown: Callable[[State], ColumnElement[Any]]) -> ColumnElement[Any]:
    """The only definition of the states; the first match wins."""
    heartbeat_at = workers.c.heartbeat_at
    return case(
        (stopped_at() < clock.stopped_forgotten_before, shown(State.FORGOTTEN)),
        (_is_stopped(), shown(State.STOPPED)),
        (heartbeat_at.between(clock.stale_before, clock.stale_after), shown(State.ACTIVE)),
        (heartbeat_at.between(clock.lost_before, clock.lost_after), shown(State.STALE)),
        (heartbeat_at >= clock.silent_forgotten_before, shown(State.LOST)),
        else_=shown(State.FORGOTTEN),
    )


def heartbeat_age(clock: Clock) -> ColumnElement[float]:
    """Seconds since the last heartbeat; negative where the heartbeat lies in the future."""
    return epoch(clock.now - moment(workers.c.heartbeat_at))


def stopped_at() -> ColumnElement[datetime]:
    """When a worker stopped on purpose; null for one that did not.

    `info` is anybody's to write. What is there but is no timestamp still says «stopped»: the last heartbeat then
    stands in for the time. jsonb_path_query_first_tz answers null, not an error, for what it cannot read.
    """
    written = func.jsonb_path_query_first_tz(workers.c.info, text(f"'{_STOPPED_AT}'"), text("'{}'"), text("true"))
    told = cast(written.op("#>>")(text("'{}'")), DateTime(timezone=True))
    return case((_is_stopped(), moment(func.coalesce(told, workers.c.heartbeat_at))), else_=None)


def info_text(key: str) -> ColumnElement[str]:
    """A field of `info` as text: `unknown` where it is absent, empty or no string."""
    is_string = func.jsonb_typeof(workers.c.info[key]) == text("'string'")
    return case(
        (is_string, func.coalesce(func.nullif(workers.c.info[key].astext, text("''")), constant(UNKNOWN))),
        else_=constant(UNKNOWN),
    )


def moment(column: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """A timestamp as it is read, between the years 1 and 9999.

    PostgreSQL has timestamps that Python has not, infinity among them, and before version 17 takes no age of
    infinity: one such row must not hide all the others.
    """
    return func.greatest(func.least(column, literal_column(_LATEST)), literal_column(_EARLIEST))


def epoch(value: ColumnElement[Any]) -> ColumnElement[float]:
    """A timestamp as Unix time, an interval as seconds."""
    return cast(extract("epoch", value), Double)


def _is_stopped() -> ColumnElement[bool]:
    # `?` alone also finds the key as an element of an array and as a string: info may be either, by mistake.
    is_object = func.jsonb_typeof(workers.c.info) == text("'object'")
    # Most workers run: the cheap question that is false for them comes first.
    return and_(workers.c.info.has_key(text("'stopped_at'")), is_object)


def constant(value: str | int) -> ColumnElement[Any]:
    """A value of ours, written into the statement: PostgreSQL plans with it, and groups by it."""
    return literal(value, Integer if isinstance(value, int) else Text, literal_execute=True)
