"""The workers of the fleet, as the metadata DB knows them, one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select, true

from metadata_db.schema import (
    INFO_KEYS,
    Thresholds,
    clock_of,
    clock_reading,
    heartbeat_age,
    info_text,
    moment,
    state,
    workers,
)


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
