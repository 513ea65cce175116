"""The `workers` table, and the state of a worker. The table is Amp's: its shape is not ours to change."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, LiteralString

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
    Numeric,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    extract,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
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

# jsonpath also reads a time of day without a date, which is no moment, and dates that are later than all timestamps.
_MOMENT = '.datetime() ? (@.type() starts with "timestamp" || @.type() == "date" && @ < "294277-01-01".datetime())'

# The form in which PostgreSQL writes a timestamp into jsonb: without a template, jsonpath tries one after the other.
_MOMENT_OF_POSTGRESQL = r'.datetime("yyyy-mm-dd\\"T\\"HH24:MI:SS.USTZH:TZM")'

# PostgreSQL reads this zone without a template from version 17 on.
_MOMENT_IN_ZULU = r'.datetime("yyyy-mm-dd\\"T\\"HH24:MI:SS.US\\"Z\\"")'
_SECOND_IN_ZULU = r'.datetime("yyyy-mm-dd\\"T\\"HH24:MI:SS\\"Z\\"")'

PROGRESS_LENGTH = 200
"""Characters of `progress` and `failure` that are read: any client may write `info`."""

INFO_KEYS = ("version", "commit_sha", "commit_timestamp", "build_date")
UNKNOWN = "unknown"


class State(StrEnum):
    """The state of a worker, computed from its row alone. Worst first."""

    FAILED = "failed"
    LOST = "lost"
    STALE = "stale"
    STUCK = "stuck"
    ACTIVE = "active"
    STOPPED = "stopped"
    FORGOTTEN = "forgotten"


STATES = tuple(State)

RUNNING = (State.ACTIVE, State.STUCK, State.STALE)
"""The states of workers whose versions are counted."""

EXPECTED = (*RUNNING, State.LOST)
"""The states of workers from which a heartbeat is expected."""

AGE_BOUNDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds, in seconds, of the buckets in which heartbeats are counted by their distance from now. The default
thresholds of the states are among them."""

UNHEALTHY = (State.FAILED, State.LOST, State.STALE, State.STUCK)


@dataclass(frozen=True)
class Thresholds:
    """Seconds after which a worker that is silent changes its state."""

    stale_after: float = 5.0
    """Of the heartbeat's distance from now: a worker that is further away is stale."""

    lost_after: float = 60.0
    """Of the heartbeat's distance from now: a worker that is further away is lost."""

    forget_after: float = 86_400.0
    """Of being lost, stopped or failed: a worker that is so for longer than this is forgotten."""

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


BOUND_CLOCK = Clock(**{field.name: bindparam(field.name, None, DateTime(timezone=True)) for field in fields(Clock)})
"""A clock that was read before, in the same snapshot, so that several statements agree on it. `clock_at` returns its
parameters."""


def clock_at(now: datetime, thresholds: Thresholds) -> dict[str, datetime]:
    """Return the parameters of BOUND_CLOCK for one reading of the database's clock."""
    return _moments(now, thresholds, timedelta(seconds=1))


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


def _state(clock: Clock, written: Callable[[State], ColumnElement[Any]]) -> ColumnElement[Any]:
    """The only definition of the states; the first match wins."""
    active = written(State.ACTIVE)
    return case(
        # Most workers have no such key: one test instead of two halves what their state costs.
        (
            not_(workers.c.info.has_any(text("'{stopped_at,watchdog_seconds,watchdog_triggered}'"))),
            _state_by_heartbeat(clock, written, active),
        ),
        (
            _is_stopped(),
            case(
                (stopped_at() < clock.stopped_forgotten_before, written(State.FORGOTTEN)),
                (failure().is_not(None), written(State.FAILED)),
                else_=written(State.STOPPED),
            ),
        ),
        else_=_state_by_heartbeat(clock, written, case((_is_stuck(clock), written(State.STUCK)), else_=active)),
    )


def _state_by_heartbeat(
    clock: Clock, written: Callable[[State], ColumnElement[Any]], fresh: ColumnElement[Any]
) -> ColumnElement[Any]:
    heartbeat_at = workers.c.heartbeat_at
    return case(
        (heartbeat_at.between(clock.stale_before, clock.stale_after), fresh),
        (heartbeat_at.between(clock.lost_before, clock.lost_after), written(State.STALE)),
        (heartbeat_at >= clock.silent_forgotten_before, written(State.LOST)),
        else_=written(State.FORGOTTEN),
    )


def heartbeat_age(clock: Clock) -> ColumnElement[float]:
    """Seconds since the last heartbeat; negative where the heartbeat lies in the future."""
    return epoch(clock.now - moment(workers.c.heartbeat_at))


def stopped_at() -> ColumnElement[datetime]:
    """When a worker stopped; null for one that did not.

    Any client may write `info`. A value that is not a timestamp still means that the worker stopped: the last
    heartbeat then stands in for the time.
    """
    return case((_is_stopped(), func.coalesce(_info_moment("stopped_at"), moment(workers.c.heartbeat_at))), else_=None)


def failure() -> ColumnElement[str]:
    """The short text with the reason of a failure; null where its stop was on purpose."""
    return _info_line("failure")


def exit_code() -> ColumnElement[int]:
    """The exit code of a worker's program, an integer; null where there is none."""
    return cast(_info_number("exit_code", "@ >= -2147483648 && @ <= 2147483647 && @ == @.floor()"), Integer)


def progress() -> ColumnElement[str]:
    """What a worker reported last of its work; null where it reported nothing."""
    return _info_line("progress")


def progress_at() -> ColumnElement[datetime]:
    """When a worker reported progress last; null where it did not."""
    return _info_moment("progress_at")


def written_progress_at() -> ColumnElement[str]:
    """When a worker reported progress last, as it is written: maybe not a timestamp. Null where nothing is written."""
    written: ColumnElement[str] = workers.c.info["progress_at"].astext
    return written


def info_hash(seed: ColumnElement[int]) -> ColumnElement[int]:
    """A hash of `info` without what changes with every heartbeat of a worker that reports progress.

    Of such a worker, only the version and the promise are hashed, as texts: to remove progress first, and to hash what
    is left as jsonb, takes three times as long. All else changes when a worker registers, which changes the row's
    `registered_at`. Another change of it, by hand, is not seen until then.
    """
    shown = seed
    for key in ("version", "watchdog_seconds"):
        shown = func.hashtextextended(func.coalesce(workers.c.info[key].astext, constant("")), shown)
    reports = workers.c.info.has_key(text("'progress_at'"))
    has_ended = workers.c.info.has_key(text("'stopped_at'"))
    return case((and_(reports, not_(has_ended)), shown), else_=func.jsonb_hash_extended(workers.c.info, seed))


def watchdog_seconds() -> ColumnElement[float]:
    """The promise of a worker to report progress at least every so many seconds; null where it gave none."""
    # A number too small for a double raises an error, and would hide all the other rows.
    return cast(func.round(_info_number("watchdog_seconds", "@ >= 0 && @ <= 1000000"), text("6")), Double)


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
    infinity: one such row must not hide all the others. Not for a null, which comes out as the latest moment.
    """
    return func.greatest(func.least(column, literal_column(_LATEST)), literal_column(_EARLIEST))


def shown(when: ColumnElement[datetime]) -> ColumnElement[str]:
    """A `moment` as the API shows it, `2025-01-15T17:20:15Z`: UTC, whole seconds, truncated."""
    # PostgreSQL writes it: in Python, the moments of 10,000 workers take longer than all else.
    return func.to_char(func.timezone(text("'UTC'"), when), text("""'YYYY-MM-DD"T"HH24:MI:SS"Z"'"""))


def epoch(value: ColumnElement[Any]) -> ColumnElement[float]:
    """A timestamp as Unix time, an interval as seconds."""
    return cast(extract("epoch", value), Double)


def _is_stopped() -> ColumnElement[bool]:
    return _has_key("stopped_at")


def _has_key(key: LiteralString) -> ColumnElement[bool]:
    # `?` alone also finds the key as an element of an array and as a string: info may be either, by mistake.
    is_object = func.jsonb_typeof(workers.c.info) == text("'object'")
    # Most workers have no such key: the cheap question that is false for them comes first.
    return and_(workers.c.info.has_key(text("'" + key + "'")), is_object)


def _is_stuck(clock: Clock) -> ColumnElement[bool]:
    is_triggered = workers.c.info["watchdog_triggered"] == text("jsonb 'true'")
    distance = func.abs(epoch(clock.now - _written_moment("progress_at")))
    is_broken = func.coalesce(distance > watchdog_seconds(), watchdog_seconds().is_not(None))
    return or_(func.coalesce(is_triggered, false()), is_broken)


def _info_moment(key: LiteralString) -> ColumnElement[datetime]:
    """A field of `info` as a moment; null where it is no timestamp."""
    written = _written_moment(key)
    return case((written.is_not(None), moment(written)), else_=None)


def _written_moment(key: LiteralString) -> ColumnElement[datetime]:
    """A field of `info` as a finite moment, which may be out of Python's range; null where it is no timestamp."""
    written = func.coalesce(
        _info_value(key, _MOMENT_OF_POSTGRESQL),
        _info_value(key, _MOMENT_IN_ZULU),
        _info_value(key, _SECOND_IN_ZULU),
        _info_value(key, _MOMENT),
    )
    return cast(written, DateTime(timezone=True))


def _info_number(key: LiteralString, condition: LiteralString) -> ColumnElement[Any]:
    """A field of `info` as a number; null where it is none, or does not meet a condition of jsonpath."""
    return cast(_info_value(key, '? (@.type() == "number") ? (' + condition + ")"), Numeric)


def _info_value(key: LiteralString, path: LiteralString) -> ColumnElement[str]:
    """What a jsonpath finds in a field of `info`, as text; null where it finds nothing. It raises no error."""
    # Strict, since a lax path looks into arrays. An escape string, which means the same for any setting of
    # standard_conforming_strings: through a pooler, PostgreSQL parses the statement before it has ours.
    found = func.jsonb_path_query_first_tz(
        workers.c.info, text("E'strict $." + key + " " + path + "'"), text("'{}'"), text("true")
    )
    # Most workers have no such key, and the operator costs a quarter of what the path does.
    return case((workers.c.info.has_key(text("'" + key + "'")), found.op("#>>")(text("'{}'"))), else_=None)


def _info_line(key: str) -> ColumnElement[str]:
    """A field of `info` as a short text; null where it is absent, empty or no string."""
    is_string = func.jsonb_typeof(workers.c.info[key]) == text("'string'")
    return case(
        (is_string, func.left(func.nullif(workers.c.info[key].astext, text("''")), PROGRESS_LENGTH)), else_=None
    )


def constant(value: str | int) -> ColumnElement[Any]:
    """A value of ours, written into the statement: PostgreSQL plans with it, and groups by it."""
    return literal(value, Integer if isinstance(value, int) else Text, literal_execute=True)
