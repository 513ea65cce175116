"""The writes of a worker, and the lock on its node id."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import ColumnElement, Connection, TextClause, Update, false, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from amp_workers.metadata_db.engine import session_of
from amp_workers.metadata_db.errors import MetadataDbError
from amp_workers.metadata_db.schema import PROGRESS_LENGTH, moment, stopped_at, workers

# A heartbeat does not wait for the disk: if a crash of PostgreSQL loses it, the next one replaces it. The setting is of
# this one transaction, because a pooler keeps no settings of a session.
BEAT = """
UPDATE workers SET heartbeat_at = now() WHERE node_id = %s AND registered_at = %s
RETURNING set_config('synchronous_commit', 'off', true)
"""
"""The heartbeat, as psycopg takes it: of a node id, while `registered_at` is still the one that its process wrote."""


@dataclass(frozen=True, slots=True)
class Registration:
    """The last registration of a node id, and its heartbeat, at one reading of the database's clock."""

    registered_at: datetime
    heartbeat_at: datetime
    stopped: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended: on purpose, or with a failure."""

    exit_code: int | None = None
    """Of its program, or of the Python program that it is part of; 128 + N for signal N. None where there is none."""

    failure: str | None = None
    """A short text such as `exit code 7`; None where the worker ended on purpose."""


ON_PURPOSE = Ending()


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker reported of its work last."""

    text: str | None = None
    """Cut to PROGRESS_LENGTH characters."""

    reported: float | None = None
    """When it reported last: of this machine's monotonic clock. None where it did not."""

    watchdog_seconds: float | None = None
    """The promise to report at least every so many seconds; None where there is none."""

    is_triggered: bool = False
    """Whether the worker itself reported that it is stuck."""


NO_PROGRESS = Progress()


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The session that holds the advisory lock of a node id."""

    pid: int
    session_id: str | None
    """Unlike the pid, never used again. None where this role may not see it: for the session of another role."""

    is_this_session: bool


def try_lock(connection: Connection, node_id: str) -> bool:
    """Take the lock that makes a process the only one of its node id; it lasts as long as the session.

    Amp's own workers take the same lock, so the two can never share a node id.
    """
    lock = select(func.pg_try_advisory_lock(func.hashtextextended(node_id, 0)))
    return bool(connection.execute(lock).scalar_one())


# pg_locks shows a lock's number in two halves.
_HOLDERS = """
FROM pg_locks, hashtextextended(:node_id, 0) AS key
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = ((key >> 32) & 4294967295)::oid AND objid = (key & 4294967295)::oid
"""


_HOLDER = """
SELECT pid, (
    SELECT pid || '.' || extract(epoch FROM backend_start) FROM pg_stat_activity AS session
    WHERE session.pid = pg_locks.pid
), pid = pg_backend_pid()
"""

_SESSION_ID = """
SELECT pid || '.' || extract(epoch FROM backend_start) FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""


def lock_holder(connection: Connection, node_id: str) -> LockHolder | None:
    """Return the session that holds a node id's lock, or None where none does."""
    row = connection.execute(text(f"{_HOLDER} {_HOLDERS}"), {"node_id": node_id}).first()
    return None if row is None else LockHolder(*row)


def session_id(connection: Connection) -> str:
    """Return the id of a connection's session, as `LockHolder` has it; of no use through a pooler."""
    found: str = connection.execute(text(_SESSION_ID)).scalar_one()
    return found


_ROLES = """
SELECT quote_ident(rolname), rolsuper, quote_ident(current_user) FROM pg_stat_activity JOIN pg_roles ON oid = usesysid
WHERE pid = :pid
"""


def end_lock_holder(connection: Connection, node_id: str, pid: int) -> None:
    """Have PostgreSQL end a session, if it still is the one that holds a node id's lock. It ends a moment later.

    Raises:
        MetadataDbError: this role may not end it; the message says what to do.
    """
    try:
        connection.execute(
            text(f"SELECT pg_terminate_backend(pid) {_HOLDERS} AND pid = :pid"), {"node_id": node_id, "pid": pid}
        )
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        found = connection.execute(text(_ROLES), {"pid": pid}).one_or_none()
        if found is None:
            return  # it has ended by itself
        holder, is_superuser, us = found
        # PostgreSQL lets pg_signal_backend end the sessions of all roles but superusers.
        remedy = "" if is_superuser else f"GRANT pg_signal_backend TO {us}, or "
        raise MetadataDbError(
            "refused",
            f"session {pid} of {'superuser' if is_superuser else 'role'} {holder} holds the lock of node id "
            f"'{node_id}', its worker sends no heartbeats, and role {us} may not end it: end that worker's process, "
            f"or {remedy}run as a superuser: SELECT pg_terminate_backend({pid})",
        ) from error


def register(
    connection: Connection,
    node_id: str,
    info: Mapping[str, str],
    seen: Registration | None,
    progress: Progress = NO_PROGRESS,
) -> datetime | None:
    """Enter a worker, or renew its entry, and return its `registered_at`: the fence that its heartbeats carry.

    It returns None where another worker has registered or sent a heartbeat since. seen: the registration when the node
    id was found to be free; None where there was none.
    """
    unchanged = false() if seen is None else moment(workers.c.heartbeat_at) == seen.heartbeat_at
    whole_info = literal(dict(info), JSONB).op("||")(text(_PROGRESS).bindparams(**_values(connection, progress)))
    registered_at: datetime | None = connection.execute(_entry(node_id, whole_info, unchanged)).scalar()
    return registered_at


def _entry(node_id: str, info: ColumnElement[Any], renew_where: ColumnElement[bool]) -> ReturningInsert[Any]:
    now = {"registered_at": func.now(), "heartbeat_at": func.now()}
    entry = insert(workers).values(node_id=node_id, info=info, created_at=func.now(), **now)
    renewed = entry.on_conflict_do_update(
        index_elements=[workers.c.node_id], set_={"info": entry.excluded.info, **now}, where=renew_where
    )
    return renewed.returning(workers.c.registered_at)


def heartbeat(connection: Connection, node_id: str, registered_at: datetime, progress: Progress | None = None) -> bool:
    """Renew a heartbeat in one round trip; False where the registration is no longer this process's own.

    progress: what is new since the last write; None where nothing is.
    """
    if progress is not None:
        statement = progress_beat(node_id, registered_at, _values(connection, progress))
        return connection.execute(statement).first() is not None
    return session_of(connection).execute(BEAT, (node_id, registered_at), prepare=True).rowcount == 1


# Any client may write `info`, which may be something else than an object.
_OTHER_INFO = """
(CASE jsonb_typeof(info) WHEN 'object' THEN info ELSE '{}' END
    - CAST('{progress,progress_at,watchdog_seconds,watchdog_triggered}' AS text[]))
"""

_PROGRESS = """
jsonb_strip_nulls(jsonb_build_object(
    'progress', CAST(:progress AS text),
    'progress_at', now() - make_interval(secs => CAST(:progress_age AS double precision)),
    'watchdog_seconds', CAST(:watchdog_seconds AS double precision),
    'watchdog_triggered', CAST(:watchdog_triggered AS boolean)))
"""

_ENDING = """
jsonb_strip_nulls(jsonb_build_object(
    'stopped_at', now(), 'exit_code', CAST(:exit_code AS integer), 'failure', CAST(:failure AS text)))
"""


def mark_stopped(
    connection: Connection,
    node_id: str,
    registered_at: datetime,
    ending: Ending = ON_PURPOSE,
    progress: Progress = NO_PROGRESS,
) -> bool:
    """Record that a worker has ended, and how; False where the registration is no longer this process's own."""
    values = {
        "exit_code": ending.exit_code,
        "failure": _storable(connection, ending.failure),
        **_values(connection, progress),
    }
    info = text(f"{_OTHER_INFO} || {_PROGRESS} || {_ENDING}").bindparams(**values)
    return connection.execute(_own_row(node_id, registered_at, info)).rowcount == 1


def registration(connection: Connection, node_id: str) -> Registration | None:
    """Return who registered last under a node id; None where there is no row."""
    heartbeat_at = moment(workers.c.heartbeat_at)
    found = select(
        moment(workers.c.registered_at),
        heartbeat_at,
        stopped_at().is_not(None),
    ).where(workers.c.node_id == node_id)
    row = connection.execute(found).one_or_none()
    return None if row is None else Registration(*row)


def progress_beat(node_id: str, registered_at: datetime, values: Mapping[str, object]) -> ReturningUpdate[Any]:
    """Return the heartbeat that carries progress: a few times the WAL of BEAT, and as little waiting for the disk."""
    info = text(f"{_OTHER_INFO} || {_PROGRESS}").bindparams(**values)
    unsynchronized = func.set_config(text("'synchronous_commit'"), text("'off'"), text("true"))
    return _own_row(node_id, registered_at, info).returning(unsynchronized)


def _own_row(node_id: str, registered_at: datetime, info: TextClause) -> Update:
    """The fence: a later registration changes `registered_at`, and every older process writes to no row."""
    own = update(workers).where(workers.c.node_id == node_id, workers.c.registered_at == registered_at)
    return own.values(heartbeat_at=func.now(), info=info)


def _values(connection: Connection, progress: Progress) -> dict[str, object]:
    """Return the parameters of _PROGRESS. The database's clock counts: only the age of the report is this machine's."""
    return {
        "progress": _storable(connection, progress.text),
        "progress_age": None if progress.reported is None else max(0.0, time.monotonic() - progress.reported),
        "watchdog_seconds": progress.watchdog_seconds,
        "watchdog_triggered": progress.is_triggered or None,
    }


def _storable(connection: Connection, line: str | None) -> str | None:
    """Return a text that every database takes: PostgreSQL refuses NUL, and what its encoding lacks."""
    if line is None:
        return None
    is_unicode = session_of(connection).info.parameter_status("server_encoding") == "UTF8"
    encoding = "utf-8" if is_unicode else "ascii"
    return line[:PROGRESS_LENGTH].replace("\0", "?").encode(encoding, "replace").decode(encoding)
