"""The heartbeat of one worker: registered under a lock, renewed every second, through whatever the database does."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection

from amp_workers.metadata_db import (
    CONNECT_TIMEOUT_SECONDS,
    MetadataDbError,
    MetadataDbUrl,
    Registration,
    UnfitSchema,
    backend_of,
    check_compatible,
    connect,
    deadline,
    heartbeat,
    mark_stopped,
    register,
    registration,
    server_of,
    single_engine,
    through_pooler,
    told,
)
from amp_workers.worker.takeover import BEAT_TIMEOUT_SECONDS, NodeIdTaken, take_node_id, taken_over

INTERVAL_SECONDS = 1.0

STOP_SECONDS = 4.0
"""How long a stop may take to be recorded."""

BACKOFF_SECONDS = (0.2, 0.9)
"""The first wait and the longest one before another try to connect, each cut by a random part."""

_POOLED = (
    "'%s' beats through a connection pooler, which may give each transaction another session: the lock on its node id "
    "cannot be held. What holds: never do two processes beat for one node id, and a second one is refused while the "
    "first beats. What is lost: a worker of Amp's own finds no lock, and takes the node id over at once."
)

_log = logging.getLogger("amp_workers.worker")


class Heartbeat:
    """Keeps one worker's row alive. `run` does it all; it is not to be called twice."""

    def __init__(
        self,
        url: MetadataDbUrl,
        node_id: str,
        info: Mapping[str, str],
        turned: Callable[[MetadataDbError | None], None] = lambda _: None,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        """turned: called from the thread that beats, after each beat, and with the error after each try that failed.
        stopping: called when a stop is about to be recorded.
        """
        self._node_id = node_id
        self._info = info
        self._turned, self._stopping = turned, stopping
        self._engine = single_engine(url, f"ampd worker {node_id}", statement_timeout=BEAT_TIMEOUT_SECONDS)
        self._registered_at: datetime | None = None
        self._backend: int | None = None
        self._silent_since: float | None = None
        self._troubles: set[str] = set()
        self._told_of_pooler = False
        self._told_of_unrecorded = False

    def run(self, stop: threading.Event, registered: Callable[[], None] = lambda: None) -> bool:
        """Beat until `stop` is set; return, at most STOP_SECONDS later, whether the metadata DB knows of the stop.

        `registered` is called once, from another thread, as soon as the node id is this process's own.

        Trouble with the database is waited out, for ever if need be. A worker that never registered has nothing to
        record, which counts as recorded.

        Raises:
            NodeIdTaken: at the start, another process holds the node id.
            UnfitSchema: at the start, the `workers` table is one in which no worker can register.
            FencedOut: later, another process took it over.
        """
        outcome: Future[bool] = Future()

        def beat() -> None:
            try:
                outcome.set_result(self.beat_until(stop, registered))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                outcome.set_exception(error)
            finally:
                stop.set()

        # A thread of its own: a resolver that hangs can be left only by leaving it behind.
        threading.Thread(target=beat, name="heartbeat", daemon=True).start()
        stop.wait()
        self._stopping()
        try:
            return outcome.result(STOP_SECONDS)
        except TimeoutError:
            if self._registered_at is None:
                return True
            self._say_unrecorded(f"the metadata DB did not answer within {STOP_SECONDS:.0f} s")
            return False

    def beat_until(self, stop: threading.Event, registered: Callable[[], None] = lambda: None) -> bool:
        """Do what `run` does, in this thread and with no limit to how long a stop may take."""
        backoff = Backoff(*BACKOFF_SECONDS)
        is_told = False
        while not stop.is_set():
            try:
                with self._session() as connection:
                    self._claim(connection)
                    if not is_told:
                        registered()
                        is_told = True
                    backoff.reset()
                    self._turned(None)
                    self._beat(connection, stop)
                    return self._record_stop(connection)
            except MetadataDbError as error:
                if isinstance(error, UnfitSchema) and self._registered_at is None:
                    raise
                self._say_trouble(error)
                self._turned(error)
            stop.wait(backoff.next())
        return self._record_late_stop()

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        with told():
            connection = connect(self._engine, CONNECT_TIMEOUT_SECONDS)
        try:
            with told():
                yield connection
        finally:
            connection.close()

    def _claim(self, connection: Connection) -> None:
        """Take the node id, and see to it that the row is there and ours."""
        pooled = through_pooler(connection)
        if pooled and not self._told_of_pooler:
            self._told_of_pooler = True
            _log.warning(_POOLED, self._node_id)
        with deadline(connection, BEAT_TIMEOUT_SECONDS):
            check_compatible(connection)
        seen = take_node_id(connection, self._node_id, registered_at=self._registered_at, own_backend=self._backend)
        self._backend = None if pooled else backend_of(connection)
        with deadline(connection, BEAT_TIMEOUT_SECONDS):
            if self._registered_at is None:
                self._register_first(connection, seen)
            elif seen is not None and seen.registered_at != self._registered_at:
                self._register_again(connection, seen)
            elif not heartbeat(connection, self._node_id, self._registered_at):
                self._claim_lost_row(connection)
        if self._silent_since is not None:
            _log.info("'%s' beats after %.1f s without", self._node_id, time.monotonic() - self._silent_since)
        self._silent_since = None
        self._troubles.clear()

    def _register_first(self, connection: Connection, seen: Registration | None) -> None:
        self._registered_at = register(connection, self._node_id, self._info, seen)
        if self._registered_at is None:
            raise NodeIdTaken(f"another worker process registered as '{self._node_id}', or beat, at the same moment")
        version = self._info.get("version", "unknown")
        _log.info("registered as '%s' in %s, version %s", self._node_id, server_of(connection), version)

    def _claim_lost_row(self, connection: Connection) -> None:
        """A beat found no row of ours: it was deleted, or belongs to another process by now."""
        found = self._successor(connection)
        if found is not None:
            # It is as old as a replica or a backup: what that means is found out by taking the node id anew.
            raise MetadataDbError("query", f"the row of '{self._node_id}' is of an older registration")
        self._register_again(connection, None)

    def _successor(self, connection: Connection) -> Registration | None:
        """Return who has the row, which is not ours: an older registration, or nobody.

        Raises:
            FencedOut: a later one.
        """
        found = registration(connection, self._node_id)
        assert self._registered_at is not None
        if found is not None and found.registered_at > self._registered_at:
            raise taken_over(self._node_id, found)
        return found

    def _register_again(self, connection: Connection, seen: Registration | None) -> None:
        registered_at = register(connection, self._node_id, self._info, seen)
        if registered_at is None:
            raise MetadataDbError("query", f"the row of '{self._node_id}' comes and goes")
        self._registered_at = registered_at
        was = "deleted" if seen is None else f"an older one, of {seen.registered_at.isoformat(timespec='seconds')}"
        _log.warning("the row of '%s' was %s: registered again", self._node_id, was)

    def _beat(self, connection: Connection, stop: threading.Event) -> None:
        due = time.monotonic() + INTERVAL_SECONDS
        while not stop.wait(max(0.0, due - time.monotonic())):
            assert self._registered_at is not None
            with deadline(connection, BEAT_TIMEOUT_SECONDS):
                if not heartbeat(connection, self._node_id, self._registered_at):
                    self._claim_lost_row(connection)
            _log.debug("'%s' beats", self._node_id)
            self._turned(None)
            due = next_due(due, time.monotonic())

    def _record_stop(self, connection: Connection) -> bool:
        assert self._registered_at is not None
        with deadline(connection, BEAT_TIMEOUT_SECONDS):
            is_recorded = mark_stopped(connection, self._node_id, self._registered_at)
            older = None if is_recorded else self._successor(connection)
        if is_recorded:
            _log.info("'%s' stopped", self._node_id)
        else:
            self._say_unrecorded("its row was deleted" if older is None else "its row is of an older registration")
        return is_recorded

    def _record_late_stop(self) -> bool:
        """Stopped while the database was away: it gets one more chance to hear of it. The fence does without a lock."""
        if self._registered_at is None:
            return True
        try:
            with self._session() as connection:
                return self._record_stop(connection)
        except MetadataDbError as error:
            self._say_unrecorded(str(error))
            return False

    def _say_unrecorded(self, reason: str) -> None:
        # Where `run` waited no longer, it has said so; the thread that is left behind finds out later.
        if self._told_of_unrecorded:
            return
        self._told_of_unrecorded = True
        _log.error("'%s' stops, which could not be recorded: %s", self._node_id, reason)

    def _say_trouble(self, error: MetadataDbError) -> None:
        """Once for each kind of trouble in an outage, not once for each try."""
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        if error.reason not in self._troubles:
            self._troubles.add(error.reason)
            _log.warning("'%s' cannot beat and keeps trying: %s", self._node_id, error)


def next_due(due: float, now: float) -> float:
    """Return when to beat next: on the schedule that `due` is on, after `now`, with no beat made up for."""
    return due + INTERVAL_SECONDS * (math.floor((now - due) / INTERVAL_SECONDS) + 1)


class Backoff:
    """Waits that double, and differ from one process to the next: a fleet must not come back in one instant."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._wait = first

    def reset(self) -> None:
        self._wait = self._first

    def next(self) -> float:
        wait, self._wait = self._wait, min(self._wait * 2, self._longest)
        return wait * random.uniform(1 / 3, 1.0)  # noqa: S311 - to spread load, not to keep a secret
