"""Which process holds a node id: registration, the fencing token, and takeover from a worker that is silent.

Amp's own workers register *before* they try the lock. A process of Amp's that finds the lock held has therefore already
replaced the registration when it exits, so another registration alone proves nothing. `decide` has the rules.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from sqlalchemy import Connection

from amp_workers.errors import AmpError
from amp_workers.metadata_db import (
    Ending,
    LockHolder,
    MetadataDbError,
    Registration,
    deadline,
    end_lock_holder,
    heartbeat,
    lock_holder,
    mark_stopped,
    register,
    registration,
    server_of,
    session_id,
    through_pooler,
    try_lock,
)
from amp_workers.worker.progress import ProgressReports

BEAT_TIMEOUT_SECONDS = 3.0
"""The timeout of a statement, after which the connection is closed as well. It leaves time for a new connection before
the worker becomes stale. A shorter one would be worse: on a busy server, a connection costs more than a heartbeat."""

SILENT_SECONDS = 5.0
"""A worker that sends no heartbeat for this long, while watched, gives way to another process with its node id."""

_LOOK_SECONDS = 0.1

LONGEST_LOOK_SECONDS = 1.0
"""The longest time that one look counts for. While this process is frozen, it does not watch, and the other worker may
be frozen as well: `docker compose pause` stops both."""

_ENDING_SECONDS = 3.0

_REPEAT_SECONDS = 60.0
"""The shortest time between two warnings that another process keeps replacing the registration."""

_log = logging.getLogger("amp_workers.worker")


class NodeIdTaken(AmpError):
    """Another process holds the node id and sends heartbeats; the message names it."""


class FencedOut(AmpError):
    """Another process took the node id over while this one was cut off or frozen."""


class Lock(Enum):
    """Which session holds the advisory lock of a node id."""

    FREE = auto()
    OURS = auto()
    """This session."""

    OUR_OLD_SESSIONS = auto()
    """An earlier session of this process, which PostgreSQL has not ended yet."""

    ANOTHERS = auto()


class Row(Enum):
    """Whose registration is in the row of a node id."""

    MISSING = auto()
    OURS = auto()
    STOPPED = auto()
    """Another registration, whose worker has recorded its stop."""

    ANOTHERS = auto()


class Life(Enum):
    """What watching the row has shown."""

    UNKNOWN = auto()
    HEARTBEAT = auto()
    SILENCE = auto()


class Decision(Enum):
    """What to do about a node id."""

    TAKE = auto()
    """Take the lock where it is free, register where the registration is not ours, and send a heartbeat."""

    WAIT = auto()
    END_SESSION = auto()
    """End the session that holds the lock: its process is frozen, or cut off without PostgreSQL noticing."""

    GIVE_WAY = auto()


@dataclass(frozen=True, slots=True)
class Observation:
    """A node id at one moment.

    pooled: the connection leads through a pooler, which keeps no lock. is_registered: this process has registered.
    """

    pooled: bool
    is_registered: bool
    lock: Lock
    row: Row
    life: Life


def decide(seen: Observation) -> Decision:
    """Return what one observation of a node id calls for."""
    is_replaced = seen.is_registered and seen.row in (Row.STOPPED, Row.ANOTHERS)
    if is_replaced and (seen.pooled or seen.lock is Lock.ANOTHERS):
        return Decision.GIVE_WAY  # through a pooler, no lock can show that the other process was refused
    if seen.lock is Lock.OUR_OLD_SESSIONS:
        return Decision.END_SESSION
    if seen.lock is Lock.OURS and (seen.is_registered or seen.life is not Life.HEARTBEAT):
        return Decision.TAKE
    if seen.lock is Lock.FREE and seen.row is not Row.ANOTHERS:
        return Decision.TAKE
    after_silence = Decision.TAKE if seen.lock is Lock.FREE else Decision.END_SESSION
    return {Life.UNKNOWN: Decision.WAIT, Life.HEARTBEAT: Decision.GIVE_WAY, Life.SILENCE: after_silence}[seen.life]


class Watch:
    """Watches one row for heartbeats. Only changes count, never ages: the database's clock may be set meanwhile."""

    def __init__(self) -> None:
        self._before: Registration | None = None
        self._looked_at: float | None = None
        self._watched = 0.0

    def see(self, found: Registration | None, now: float) -> Life:
        """Return what the row shows at a time of the monotonic clock. The first observation shows nothing yet."""
        before, looked_at = self._before, self._looked_at
        self._before, self._looked_at = found, now
        if looked_at is None:
            return Life.UNKNOWN
        if found is not None and _is_heartbeat(before, found):
            self._watched = 0.0
            return Life.HEARTBEAT
        self._watched += min(now - looked_at, LONGEST_LOOK_SECONDS)
        return Life.SILENCE if self._watched > SILENT_SECONDS else Life.UNKNOWN


def _is_heartbeat(before: Registration | None, found: Registration) -> bool:
    # A registration sets both columns to one moment, and a process that is refused leaves it as well as a worker. A
    # stop, which is recorded once, sets the heartbeat as well.
    is_registration = found.heartbeat_at == found.registered_at
    is_stop = found.stopped and (before is None or not before.stopped)
    is_new = before is None or before.heartbeat_at != found.heartbeat_at
    return is_new and not is_registration and not is_stop


class NodeIdClaim:
    """The claim of one process to its node id, through all of its sessions."""

    def __init__(self, node_id: str, info: Mapping[str, str], progress: ProgressReports) -> None:
        self._node_id, self._info = node_id, info
        self._progress = progress
        self.registered_at: datetime | None = None
        """The fencing token: what this process registered with. None before its first registration."""

        self._sessions: set[str] = set()
        self._ended_session: int | None = None
        self._waited = False
        self._warned_at: float | None = None

    def take(self, connection: Connection, stop: threading.Event) -> bool:
        """Register, register again, or find the registration unchanged, and send a heartbeat. False if `stop` is set.

        This waits for as long as it takes to know whether the node id is free.

        Raises:
            NodeIdTaken: another process holds the node id, and this one has never registered.
            FencedOut: another process took the node id over.
            MetadataDbError: the session of a silent worker cannot be ended.
        """
        watch = Watch()
        ends: float | None = None
        while not stop.is_set():
            with deadline(connection, BEAT_TIMEOUT_SECONDS):
                holder, found, seen = self._observe(connection, watch)
                match decide(seen):
                    case Decision.GIVE_WAY:
                        raise self._another_has_it(found)
                    case Decision.TAKE if self._take(connection, seen, found):
                        self._ended_session, self._waited = None, False
                        return True
                    case Decision.WAIT if found is not None:
                        self._log_waiting(found)
                    case Decision.END_SESSION:
                        assert holder is not None
                        if ends is not None and time.monotonic() > ends:
                            message = f"session {holder.pid}, which holds node id '{self._node_id}', does not end"
                            raise MetadataDbError("refused", message)
                        ends = ends or time.monotonic() + _ENDING_SECONDS
                        self._end(connection, holder, seen.lock)
            stop.wait(_LOOK_SECONDS)
        return False

    def beat(self, connection: Connection) -> bool:
        """Send a heartbeat, with the progress that is pending; False where the registration is not this process's."""
        assert self.registered_at is not None
        pending = self._progress.pending
        with deadline(connection, BEAT_TIMEOUT_SECONDS):
            is_ours = heartbeat(connection, self._node_id, self.registered_at, pending)
        if is_ours and pending is not None:
            self._progress.record(pending)
        return is_ours

    def record_stop(self, connection: Connection, ending: Ending) -> str | None:
        """Record how this worker ended; return the reason if that was not possible.

        Raises:
            FencedOut: another process took the node id over.
        """
        assert self.registered_at is not None
        with deadline(connection, BEAT_TIMEOUT_SECONDS):
            if self._mark_stopped(connection, ending):
                return None
            _, found, seen = self._observe(connection, Watch())
            if found is None:
                return "its row was deleted"
            decision = decide(seen)
            if decision is Decision.GIVE_WAY:
                raise self._another_has_it(found)
            is_taken = decision is Decision.TAKE and self._take(connection, seen, found)
            if is_taken and self._mark_stopped(connection, ending):
                return None
            return f"another process registered under it at {_iso(found.registered_at)}"

    def _mark_stopped(self, connection: Connection, ending: Ending) -> bool:
        assert self.registered_at is not None
        return mark_stopped(connection, self._node_id, self.registered_at, ending, self._progress.current)

    def _observe(
        self, connection: Connection, watch: Watch
    ) -> tuple[LockHolder | None, Registration | None, Observation]:
        holder = lock_holder(connection, self._node_id)
        found = registration(connection, self._node_id)
        pooled = through_pooler(connection)
        seen = Observation(
            pooled=pooled,
            is_registered=self.registered_at is not None,
            lock=self._lock(holder, pooled),
            row=self._row(found),
            life=watch.see(found, time.monotonic()),
        )
        return holder, found, seen

    def _lock(self, holder: LockHolder | None, pooled: bool) -> Lock:
        if holder is None:
            return Lock.FREE
        if holder.is_this_session and not pooled:  # a pooler's session belongs to no client
            return Lock.OURS
        return Lock.OUR_OLD_SESSIONS if holder.session_id in self._sessions else Lock.ANOTHERS

    def _row(self, found: Registration | None) -> Row:
        if found is None:
            return Row.MISSING
        if found.registered_at == self.registered_at:
            return Row.OURS
        return Row.STOPPED if found.stopped else Row.ANOTHERS

    def _take(self, connection: Connection, seen: Observation, found: Registration | None) -> bool:
        """Take the node id as it was found; False where that has changed meanwhile."""
        if not seen.pooled and seen.lock is Lock.FREE:
            # Before the lock is requested: if the answer is lost, this session may hold it.
            self._sessions.add(session_id(connection))
            if not try_lock(connection, self._node_id):
                return False
            self._sessions = {session_id(connection)}  # the lock is free, so no older session is left
        if seen.row is not Row.OURS:
            progress = self._progress.current
            registered_at = register(connection, self._node_id, self._info, found, progress)
            if registered_at is None:
                return False
            self._progress.record(progress)
            is_first, self.registered_at = self.registered_at is None, registered_at
            if is_first:
                fields = {"node_id": self._node_id, "url": server_of(connection), "version": self._info.get("version")}
                _log.info("registered as '%s'", self._node_id, extra=fields)
            else:
                self._log_registered_again(found)
        # A heartbeat follows a registration at once: a process that was refused leaves a registration, too.
        return self.beat(connection)

    def _end(self, connection: Connection, holder: LockHolder, lock: Lock) -> None:
        end_lock_holder(connection, self._node_id, holder.pid)
        if holder.pid != self._ended_session:
            self._ended_session = holder.pid
            # An old session of this process follows an outage, which is in the log.
            is_old = lock is Lock.OUR_OLD_SESSIONS
            level, whose = (logging.INFO, "an old one of this worker") if is_old else (logging.WARNING, "silent")
            _log.log(level, "ending session %d, which holds node id '%s': it is %s", holder.pid, self._node_id, whose)

    def _another_has_it(self, found: Registration | None) -> Exception:
        when = "" if found is None else f", which registered at {_iso(found.registered_at)}"
        if self.registered_at is None:
            return NodeIdTaken(
                f"node id '{self._node_id}' is held by another worker process{when} and sends heartbeats"
            )
        return FencedOut(f"node id '{self._node_id}' was taken over by another worker process{when}")

    def _log_waiting(self, found: Registration) -> None:
        if not self._waited:
            self._waited = True
            _log.info(
                "node id '%s' is held by another worker since %s: takeover after %.0f s without a heartbeat",
                self._node_id,
                _iso(found.registered_at),
                SILENT_SECONDS,
            )

    def _log_registered_again(self, found: Registration | None) -> None:
        if found is None:
            _log.warning("the row of '%s' was deleted: registered again", self._node_id)
        elif self._warned_at is None or time.monotonic() > self._warned_at + _REPEAT_SECONDS:
            self._warned_at = time.monotonic()
            _log.warning(
                "another process registered as '%s' at %s, and does not hold its lock: registered again. If that "
                "process is a worker, stop it, or give it another node id",
                self._node_id,
                _iso(found.registered_at),
            )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
