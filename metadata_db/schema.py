"""The `workers` table, and the state of a worker. The table is Amp's: its shape is not ours to change."""

from dataclasses import dataclass
from datetime import datetime
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
    MetaData,
    Table,
    Text,
    and_,
    case,
    cast,
    extract,
    func,
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

INFO_KEYS = ("version", "commit_sha", "commit_timestamp", "build_date")
UNKNOWN = "unknown"


class State(StrEnum):
    """What can be said of a worker from its row alone."""

    ACTIVE = "active"
    STALE = "stale"
    LOST = "lost"
    STOPPED = "stopped"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class Thresholds:
    """Seconds after which a worker that is silent changes its state."""

    stale_after: float = 5.0
    """Of heartbeat age: a worker older than this is stale."""

    lost_after: float = 60.0
    """Of heartbeat age: a worker older than this is lost."""

    forget_after: float = 86_400.0
    """Of being lost or stopped: a worker that is either for longer than this is forgotten."""


DEFAULT_THRESHOLDS = Thresholds()


def database_clock(thresholds: Thresholds) -> CTE:
    """Return a CTE of one row: `now`, and the moments before which a worker is stale, lost or forgotten.

    Not `now()`: that is the time at which the statement arrived, and a statement that then waits for a lock sees
    heartbeats written long after it, which would come out younger than nothing. This clock is read when the
    statement already has its snapshot: no heartbeat that it sees can be later, unless a writer's clock is wrong.
    """
    # clock_timestamp() is volatile, so PostgreSQL does not fold this CTE into the query: it is read once.
    reading = select(func.clock_timestamp().label("now")).cte("reading")
    lost_after, forget_after = _seconds(thresholds.lost_after), _seconds(thresholds.forget_after)
    return select(
        reading.c.now,
        (reading.c.now - _seconds(thresholds.stale_after)).label("stale_before"),
        (reading.c.now - lost_after).label("lost_before"),
        (reading.c.now - lost_after - forget_after).label("silent_forgotten_before"),
        (reading.c.now - forget_after).label("stopped_forgotten_before"),
    ).cte("clock")


def state(clock: CTE) -> ColumnElement[str]:
    """A worker's state, one of `State`. The only place that says what a state means."""
    heartbeat_at = workers.c.heartbeat_at
    return case(
        (stopped_at() < clock.c.stopped_forgotten_before, _text(State.FORGOTTEN)),
        (_is_stopped(), _text(State.STOPPED)),
        (heartbeat_at >= clock.c.stale_before, _text(State.ACTIVE)),
        (heartbeat_at >= clock.c.lost_before, _text(State.STALE)),
        (heartbeat_at >= clock.c.silent_forgotten_before, _text(State.LOST)),
        else_=_text(State.FORGOTTEN),
    )


def heartbeat_age(clock: CTE) -> ColumnElement[float]:
    """Seconds since the last heartbeat; negative where the heartbeat lies in the future."""
    return epoch(clock.c.now - workers.c.heartbeat_at)


def stopped_at() -> ColumnElement[datetime]:
    """When a worker stopped on purpose; null for one that did not.

    `info` is anybody's to write. What is there but is no timestamp still says «stopped»: the last heartbeat then
    stands in for the time. jsonb_path_query_first_tz answers null, not an error, for what it cannot read.
    """
    written = func.jsonb_path_query_first_tz(
        workers.c.info, text("'$.stopped_at.datetime()'"), text("'{}'"), text("true")
    )
    moment = cast(written.op("#>>")(text("'{}'")), DateTime(timezone=True))
    return case((_is_stopped(), func.coalesce(moment, workers.c.heartbeat_at)), else_=None)


def info_text(key: str) -> ColumnElement[str]:
    """A field of `info` as text: `unknown` where it is absent, empty or no string."""
    is_string = func.jsonb_typeof(workers.c.info[key]) == text("'string'")
    return case(
        (is_string, func.coalesce(func.nullif(workers.c.info[key].astext, text("''")), _text(UNKNOWN))),
        else_=_text(UNKNOWN),
    )


def epoch(value: ColumnElement[Any]) -> ColumnElement[float]:
    """A timestamp as Unix time, an interval as seconds."""
    return cast(extract("epoch", value), Double)


def _is_stopped() -> ColumnElement[bool]:
    # `?` alone also finds the key as an element of an array and as a string: info may be either, by mistake.
    is_object = func.jsonb_typeof(workers.c.info) == text("'object'")
    return and_(is_object, workers.c.info.has_key(text("'stopped_at'")))


def _seconds(seconds: float) -> ColumnElement[Any]:
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _text(value: str) -> ColumnElement[str]:
    return literal_column(f"'{value}'", Text)
