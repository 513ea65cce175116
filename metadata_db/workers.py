"""The workers of the fleet, as the metadata DB knows them: what is read of them, and what a worker writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Update, func, select, text, true, update
from sqlalchemy.dialects.postgresql import insert

from metadata_db.engine import session_of
from metadata_db.schema import (
    INFO_KEYS,
    Thresholds,
    clock_of,
    clock_reading,
    epoch,
    heartbeat_age,
    info_text,
    moment,
    state,
    workers,
)

# The setting is that of this one transaction, so that a beat does not wait for the disk and all else does: a beat that
# a crash of PostgreSQL takes back is made up for by the next. It needs no session, which a pooler would not keep.
BEAT = """
UPDATE workers SET heartbeat_at = now() WHERE node_id = %s AND registered_at = %s
RETURNING set_config('synchronous_commit', 'off', true)
"""
"""The heartbeat, as psycopg takes it: of a node id, while `registered_at` is still the one that its process wrote."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One row of the fleet, at one reading of the database's clock."""

    node_id: str
    state: str
    heartbeat_age_seconds: float
    created_at: datetime
    registered_at: datetime
    heartbeat_at: datetime
    info: Mapping[str, str]
    """The four documented keys, `unknown` where the worker did not say."""


def check_schema(connection: Connection) -> None:
    """Raise where the workers cannot be read: no table, other columns, no right to."""
    connection.execute(select(*workers.columns).limit(0))


def list_workers(connection: Connection, thresholds: Thresholds) -> list[Worker]:
    """Return every worker, ordered by node id, byte by byte whatever the database's collation."""
    rows = connection.execute(_select_workers(thresholds).order_by(workers.c.node_id.collate("C")))
    return [_worker(row) for row in rows]


def get_worker(connection: Connection, node_id: str, thresholds: Thresholds) -> Worker | None:
    """Return one worker, or None where no worker ever registered under that node id."""
    row = connection.execute(_select_workers(thresholds).where(workers.c.node_id == node_id)).one_or_none()
    return None if row is None else _worker(row)


def try_lock(connection: Connection, node_id: str) -> bool:
    """Take the lock that makes a process the only one of its node id; it lasts as long as the session.

    Amp's own workers take the same lock, so the two can never share a node id.
    """
    lock = select(func.pg_try_advisory_lock(func.hashtextextended(node_id, 0)))
    return bool(connection.execute(lock).scalar_one())


def register(connection: Connection, node_id: str, info: Mapping[str, str]) -> datetime:
    """Enter a worker, or renew its entry, and return its `registered_at`: the fence that its heartbeats carry."""
    now = func.now()
    entry = insert(workers).values(
        node_id=node_id, info=dict(info), created_at=now, registered_at=now, heartbeat_at=now
    )
    renewed = entry.on_conflict_do_update(
        index_elements=[workers.c.node_id],
        set_={"info": entry.excluded.info, "registered_at": now, "heartbeat_at": now},
    )
    registered_at: datetime = connection.execute(renewed.returning(workers.c.registered_at)).scalar_one()
    return registered_at


def heartbeat(connection: Connection, node_id: str, registered_at: datetime) -> bool:
    """Renew a heartbeat in one round trip; False where the registration is no longer this process's own."""
    return session_of(connection).execute(BEAT, (node_id, registered_at), prepare=True).rowcount == 1


def mark_stopped(connection: Connection, node_id: str, registered_at: datetime) -> bool:
    """Record that a worker stops on purpose; False where the registration is no longer this process's own."""
    stopped = func.jsonb_build_object(text("'stopped_at'"), func.now())
    stop = _own_row(node_id, registered_at).values(heartbeat_at=func.now(), info=workers.c.info.op("||")(stopped))
    return connection.execute(stop).rowcount == 1


def registration(connection: Connection, node_id: str) -> tuple[datetime, float] | None:
    """Return a worker's `registered_at` and the seconds since its heartbeat; None where there is no row."""
    age = epoch(func.clock_timestamp() - moment(workers.c.heartbeat_at))
    found = select(moment(workers.c.registered_at), age).where(workers.c.node_id == node_id)
    row = connection.execute(found).one_or_none()
    return None if row is None else (row[0], row[1])


def _own_row(node_id: str, registered_at: datetime) -> Update:
    """The fence: whoever registers later changes `registered_at`, and every older process writes to no row."""
    return update(workers).where(workers.c.node_id == node_id, workers.c.registered_at == registered_at)


def _select_workers(thresholds: Thresholds) -> Select[tuple[Any, ...]]:
    reading = clock_reading(thresholds)
    clock = clock_of(reading)
    return select(
        workers.c.node_id,
        state(clock).label("state"),
        heartbeat_age(clock).label("heartbeat_age_seconds"),
        *(moment(workers.c[name]).label(name) for name in ("created_at", "registered_at", "heartbeat_at")),
        *(info_text(key).label(key) for key in INFO_KEYS),
    ).select_from(workers.join(reading, true()))


def _worker(row: Row[tuple[Any, ...]]) -> Worker:
    values = row._asdict()
    info = {key: values.pop(key) for key in INFO_KEYS}
    return Worker(**values, info=info)
