"""The workers of the fleet, as the metadata DB knows them, one by one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypedDict, cast

from psycopg.errors import UntranslatableCharacter
from psycopg.sql import Literal
from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.visitors import replacement_traverse

from amp_workers.errors import AmpError
from amp_workers.metadata_db.glob import matches_any
from amp_workers.metadata_db.schema import (
    INFO_KEYS,
    STATES,
    State,
    Thresholds,
    clock_of,
    clock_reading,
    constant,
    exit_code,
    failure,
    heartbeat_age,
    info_text,
    moment,
    progress,
    progress_at,
    shown,
    state,
    state_number,
    stopped_at,
    workers,
)


class Worker(TypedDict):
    """One row of the fleet, at one reading of the database's clock. A dictionary: of 10,000, an object each costs as
    much as all that the API does with them.

    The moments are `2025-01-15T17:20:15Z`: UTC and whole seconds, truncated; jq's fromdateiso8601 reads nothing else.
    """

    node_id: str
    state: str
    heartbeat_age_seconds: float
    created_at: str
    registered_at: str
    heartbeat_at: str
    info: Mapping[str, str]
    """The four documented keys, `unknown` where one is absent."""

    stopped_at: str | None
    exit_code: int | None
    failure: str | None
    progress: str | None
    progress_at: str | None
    jobs: int | None
    """How many unfinished jobs it has; None where that is unknown."""


class Order(StrEnum):
    """What a list is sorted by; workers that are equal in it are ordered by node id."""

    NODE_ID = "node_id"
    STATE = "state"
    """The worst first."""

    HEARTBEAT = "heartbeat"
    """The furthest from now first. It changes from one page to the next, so that there is one page only."""


ORDERS = tuple(Order)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which workers are asked for: all of them, unless something is said."""

    states: Collection[State] = ()
    """In one of these; in any, where none is named."""

    node_ids: Collection[str] = ()
    """With a node id that one of these globs matches; with any, where none is named."""

    version: str | None = None
    """With an `info.version`, as it is shown, that this glob matches."""

    order: Order = Order.NODE_ID

    after: str | None = None
    """With a node id behind this one, byte by byte; in the order of states, within `after_state`."""

    after_state: State | None = None

    limit: int | None = None
    """So many at most, the first ones in the order."""


EVERY_WORKER = Selection()


class NotInDatabase(AmpError):
    """A text that is asked for has a character that the metadata DB's encoding has not; the message names both."""


def check_schema(connection: Connection) -> None:
    """Raise where the workers cannot be read: no table, other columns, no right to."""
    connection.execute(select(*workers.columns).limit(0))


def list_workers(connection: Connection, thresholds: Thresholds, selection: Selection = EVERY_WORKER) -> list[Worker]:
    """Return the selected workers in their order; node ids are compared byte by byte, whatever the collation.

    Raises:
        NotInDatabase: no worker can be what is asked for.
    """
    reading = clock_reading(thresholds)
    clock = clock_of(reading)
    by_bytes = workers.c.node_id.collate("C")
    query = _select_workers(reading).limit(selection.limit)
    if selection.states:
        query = query.where(state(clock).in_(selection.states))
    if selection.node_ids:
        query = query.where(matches_any(workers.c.node_id, selection.node_ids))
    if selection.version is not None:
        query = query.where(matches_any(info_text("version"), [selection.version]))
    if selection.order is Order.STATE:
        query = query.order_by(state_number(clock), by_bytes)
        if selection.after is not None and selection.after_state is not None:
            last = tuple_(constant(STATES.index(selection.after_state)), literal(selection.after))
            query = query.where(tuple_(state_number(clock), by_bytes) > last)
    elif selection.order is Order.HEARTBEAT:
        query = query.order_by(func.abs(heartbeat_age(clock)).desc(), by_bytes)
    else:
        query = query.order_by(by_bytes)
        if selection.after is not None:
            query = query.where(by_bytes > selection.after)
    try:
        rows = connection.execute(query).all()
    except DBAPIError as error:
        if isinstance(error.orig, UntranslatableCharacter):
            raise NotInDatabase(f"the metadata DB cannot have that: {error.orig.diag.message_primary}") from error
        raise
    return [_worker(row) for row in rows]


def get_worker(connection: Connection, node_id: str, thresholds: Thresholds) -> Worker | None:
    """Return one worker, or None where no worker ever registered under that node id."""
    row = connection.execute(_select_worker(thresholds), {"wanted": node_id}).one_or_none()
    return None if row is None else _worker(row)


@lru_cache
def _select_worker(thresholds: Thresholds) -> Select[tuple[Any, ...]]:
    # Kept: to put the statement together takes longer than to run it.
    statement = _select_workers(clock_reading(thresholds)).where(workers.c.node_id == bindparam("wanted"))
    # PostgreSQL plans a prepared statement of one parameter once. With the constants as parameters, 35 of them, it
    # plans again for each execution, which takes 2.5 ms instead of 0.15 ms.
    return cast("Select[tuple[Any, ...]]", replacement_traverse(statement, {}, _as_literal))


def _as_literal(element: Any, **_: object) -> ColumnElement[Any] | None:
    """Replace a parameter that has a value by that value."""
    if isinstance(element, BindParameter) and not element.required:
        return literal_column(Literal(element.value).as_string(None), element.type)
    return None


def _select_workers(reading: CTE) -> Select[tuple[Any, ...]]:
    clock = clock_of(reading)
    return select(
        workers.c.node_id,
        state(clock).label("state"),
        heartbeat_age(clock).label("heartbeat_age_seconds"),
        *(shown(moment(workers.c[name])).label(name) for name in ("created_at", "registered_at", "heartbeat_at")),
        *(info_text(key).label(key) for key in INFO_KEYS),
        shown(stopped_at()).label("stopped_at"),
        exit_code().label("exit_code"),
        failure().label("failure"),
        progress().label("progress"),
        shown(progress_at()).label("progress_at"),
    ).select_from(workers.join(reading, true()))


def _worker(row: Sequence[Any]) -> Worker:
    node_id, its_state, age, created_at, registered_at, heartbeat_at, version, sha, committed, built, *rest = row
    stopped, code, why, reported, reported_at = rest
    return {
        "node_id": node_id,
        "state": its_state,
        "heartbeat_age_seconds": age,
        "created_at": created_at,
        "registered_at": registered_at,
        "heartbeat_at": heartbeat_at,
        "info": {"version": version, "commit_sha": sha, "commit_timestamp": committed, "build_date": built},
        "stopped_at": stopped,
        "exit_code": None if stopped is None else code,
        "failure": None if stopped is None else why,
        "progress": reported,
        "progress_at": reported_at,
        "jobs": None,
    }
