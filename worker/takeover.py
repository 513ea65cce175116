"""Taking a node id: one that is free, or one whose worker has fallen silent."""

import logging
import time
from datetime import datetime

from sqlalchemy import Connection

from amp_workers.errors import AmpError
from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    MetadataDbError,
    Registration,
    deadline,
    end_lock_holder,
    lock_holder,
    registration,
    through_pooler,
    try_lock,
)

BEAT_TIMEOUT_SECONDS = 3.0
"""After which a statement is given up and the connection with it: there is still time for a new connection before the
worker counts as stale. Sooner would be worse: on a busy server a new connection costs far more than the beat."""

SILENT_SECONDS = DEFAULT_THRESHOLDS.stale_after
"""A worker with no heartbeat for longer gives way to another process that asks for its node id."""

_LOOK_SECONDS = 0.1
_ENDING_SECONDS = 3.0

_log = logging.getLogger("amp_workers.worker")


class NodeIdTaken(AmpError):
    """Another process holds the node id and beats; the message names it."""


class FencedOut(AmpError):
    """Another process registered under the node id while this one was cut off or frozen."""


def _taken(node_id: str, by: Registration) -> NodeIdTaken:
    age = f"its last heartbeat is {by.silent_seconds:.1f} s old"
    return NodeIdTaken(f"node id '{node_id}' is held by another worker process; {age}")


def taken_over(node_id: str, by: Registration) -> FencedOut:
    """Return the error that says who has the node id now."""
    moment = by.registered_at.isoformat(timespec="seconds")
    return FencedOut(f"node id '{node_id}' was taken over by another worker process, which registered at {moment}")


def take_node_id(
    connection: Connection, node_id: str, *, registered_at: datetime | None, own_backend: int | None
) -> Registration | None:
    """Return once the node id may be registered, or beaten for again: at once where it is free, or this process's own.

    It is free where nobody registered under it, where its worker stopped on purpose, and where that has been silent for
    SILENT_SECONDS. Until then this watches, which tells a worker that is dead from one that beats, or that lost its
    session a moment ago. The lock of a silent worker is freed by ending its session: the process is frozen, or cut off
    without PostgreSQL noticing. Through a pooler, which keeps no session's lock, heartbeats alone tell.

    What was seen last is returned, to be registered over.

    registered_at, own_backend: what this process wrote, and in which session, before it lost that session.

    Raises:
        NodeIdTaken: another process beats.
        FencedOut: another process has registered since `registered_at`.
        MetadataDbError: the silent worker's session cannot be ended.
    """
    watch = _Watch()
    ends: float | None = None
    while True:
        with deadline(connection, BEAT_TIMEOUT_SECONDS):
            pooled = through_pooler(connection)
            holder = lock_holder(connection, node_id)
            found = registration(connection, node_id)
            # A row that is older than what this process wrote is nobody's successor: the database is another by now,
            # a replica that was behind or a backup.
            is_own = found is not None and found.registered_at == registered_at
            if not is_own:
                if registered_at is not None and found is not None and found.registered_at > registered_at:
                    raise taken_over(node_id, found)
                if found is not None and watch.sees_life(found):
                    raise _taken(node_id, found) if registered_at is None else taken_over(node_id, found)
            silent = watch.sees_silence(found)
            is_free = is_own or found is None or found.stopped or silent
            if is_free and holder is None and (pooled or try_lock(connection, node_id)):
                return found
            if found is not None and holder is None and not is_free:
                watch.say_waiting(node_id, found)
            if holder is not None and (silent or holder == own_backend):
                if ends is None:
                    ends = time.monotonic() + _ENDING_SECONDS
                    # Of its own session, which may just take its time to end, the trouble that ended it has told.
                    level = logging.INFO if holder == own_backend else logging.WARNING
                    _log.log(level, "ending the session %d, which holds '%s' and is silent", holder, node_id)
                end_lock_holder(connection, node_id, holder)
        if ends is not None and time.monotonic() > ends:
            raise MetadataDbError("refused", f"session {holder}, which holds node id '{node_id}', does not end")
        time.sleep(_LOOK_SECONDS)


class _Watch:
    """What looking at a registration again and again tells of its worker, whatever the database's clock does."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._heartbeat_at: datetime | None = None
        self._is_told = False

    def sees_life(self, found: Registration | None) -> bool:
        """Whether a heartbeat came since the first look."""
        if found is None or found.stopped:
            return False
        before, self._heartbeat_at = self._heartbeat_at, found.heartbeat_at
        return before is not None and before != found.heartbeat_at

    def sees_silence(self, found: Registration | None) -> bool:
        """Whether no heartbeat came for SILENT_SECONDS."""
        watched = time.monotonic() - self._began
        return watched > SILENT_SECONDS or (found is not None and found.silent_seconds > SILENT_SECONDS)

    def say_waiting(self, node_id: str, found: Registration) -> None:
        """Say once why this takes a while."""
        if not self._is_told:
            self._is_told = True
            _log.info(
                "'%s' beat %.1f s ago, in a session that is gone: taking it over unless it beats again within %.0f s",
                node_id,
                found.silent_seconds,
                SILENT_SECONDS,
            )
