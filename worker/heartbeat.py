"""The heartbeat of one worker: registered under a lock, renewed every second, through whatever the database does."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection

from metadata_db import (
    CONNECT_TIMEOUT_SECONDS,
    MetadataDbError,
    MetadataDbUrl,
    connect,
    deadline,
    heartbeat,
    mark_stopped,
    register,
    registration,
    single_engine,
    told,
    try_lock,
)

INTERVAL_SECONDS = 1.0

BEAT_TIMEOUT_SECONDS = 2.0
"""After which a beat is given up and the connection with it: two missed beats, and still time for a new connection
before the worker counts as stale."""

_LOCK_PATIENCE_SECONDS = 2.0
"""How long a lock may outlive its process: PostgreSQL notices a closed socket only when it next looks."""

_BACKOFF_SECONDS = (0.2, 2.0)
"""The first wait and the longest one before another try to connect, each cut by a random part."""

_log = logging.getLogger("worker")


class NodeIdTaken(Exception):
    """Another process holds the node id; the message names it and says how alive that process is."""


class FencedOut(Exception):
    """Another process registered under the node id while this one was cut off or frozen."""


class Heartbeat:
    """Keeps one worker's row alive. `run` does it all; it is not to be called twice."""

    def __init__(self, url: MetadataDbUrl, node_id: str, info: Mapping[str, str]) -> None:
        self._url = url
        self._node_id = node_id
        self._info = info
        self._engine = single_engine(url, f"ampd worker {node_id}", statement_timeout=BEAT_TIMEOUT_SECONDS)
        self._registered_at: datetime | None = None
        self._silent_since: float | None = None
        self._trouble: str | None = None

    def run(self, stop: threading.Event, registered: Callable[[], None] = lambda: None) -> bool:
        """Beat until `stop` is set; return whether the stop is recorded in the metadata DB.

        `registered` is called once, from this thread, as soon as the node id is this process's own.

        Trouble with the database is waited out, for ever if need be. A worker that never registered has nothing to
        record, which counts as recorded.

        Raises:
            NodeIdTaken: at the start, another process holds the node id.
            FencedOut: later, another process took it over.
        """
        backoff = _Backoff(*_BACKOFF_SECONDS)
        while not stop.is_set():
            first = self._registered_at is None
            try:
                with self._session() as connection:
                    if first:
                        registered()
                    backoff.reset()
                    self._beat(connection, stop)
                    return self._record_stop(connection)
            except MetadataDbError as error:
                self._say_trouble(error)
            stop.wait(backoff.next())
        return self._record_late_stop()

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        """Connect, take the lock, and see to it that the row is there and ours."""
        with told():
            connection = connect(self._engine, CONNECT_TIMEOUT_SECONDS)
        try:
            with told():
                self._take_lock(connection)
                self._claim(connection)
                yield connection
        finally:
            connection.close()

    def _take_lock(self, connection: Connection) -> None:
        patience_ends = time.monotonic() + _LOCK_PATIENCE_SECONDS
        while True:
            with deadline(connection, BEAT_TIMEOUT_SECONDS):
                if try_lock(connection, self._node_id):
                    return
                held = registration(connection, self._node_id)
            if time.monotonic() >= patience_ends:
                break
            time.sleep(0.2)
        if self._registered_at is None:
            age = "" if held is None else f"; its last heartbeat is {held[1]:.1f} s old"
            raise NodeIdTaken(f"node id '{self._node_id}' is held by another worker process{age}")
        raise MetadataDbError("refused", f"the lock of node id '{self._node_id}' is held by another session")

    def _claim(self, connection: Connection) -> None:
        with deadline(connection, BEAT_TIMEOUT_SECONDS):
            if self._registered_at is None:
                self._registered_at = register(connection, self._node_id, self._info)
                _log.info(
                    "registered as '%s' in %s, version %s",
                    self._node_id,
                    self._url,
                    self._info.get("version", "unknown"),
                )
            elif not heartbeat(connection, self._node_id, self._registered_at):
                self._claim_lost_row(connection)
        if self._silent_since is not None:
            _log.info("'%s' beats after %.1f s without", self._node_id, time.monotonic() - self._silent_since)
        self._trouble = self._silent_since = None

    def _claim_lost_row(self, connection: Connection) -> None:
        """A beat found no row of ours: it was deleted, or belongs to another process by now."""
        if registration(connection, self._node_id) is not None:
            raise FencedOut(f"node id '{self._node_id}' was taken over by another worker process")
        self._registered_at = register(connection, self._node_id, self._info)
        _log.warning("the row of '%s' was deleted: registered again", self._node_id)

    def _beat(self, connection: Connection, stop: threading.Event) -> None:
        due = time.monotonic() + INTERVAL_SECONDS
        while not stop.wait(max(0.0, due - time.monotonic())):
            assert self._registered_at is not None
            with deadline(connection, BEAT_TIMEOUT_SECONDS):
                if not heartbeat(connection, self._node_id, self._registered_at):
                    self._claim_lost_row(connection)
            _log.debug("'%s' beats", self._node_id)
            due = next_due(due, time.monotonic())

    def _record_stop(self, connection: Connection) -> bool:
        assert self._registered_at is not None
        with deadline(connection, BEAT_TIMEOUT_SECONDS):
            mark_stopped(connection, self._node_id, self._registered_at)
        _log.info("'%s' stopped", self._node_id)
        return True

    def _record_late_stop(self) -> bool:
        """Stopped while the database was away: it gets one more chance to hear of it."""
        if self._registered_at is None:
            return True
        try:
            with self._session() as connection:
                return self._record_stop(connection)
        except MetadataDbError as error:
            _log.error("'%s' stops, which could not be recorded: %s", self._node_id, error)
            return False

    def _say_trouble(self, error: MetadataDbError) -> None:
        """Once for each kind of trouble, not once for each try."""
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        if error.reason != self._trouble:
            self._trouble = error.reason
            _log.warning("'%s' cannot beat and keeps trying: %s", self._node_id, error)


def next_due(due: float, now: float) -> float:
    """Return when to beat next: on the schedule that `due` is on, after `now`, with no beat made up for."""
    return due + INTERVAL_SECONDS * (math.floor((now - due) / INTERVAL_SECONDS) + 1)


class _Backoff:
    """Waits that double, and differ from one process to the next: a fleet must not come back in one instant."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._wait = first

    def reset(self) -> None:
        self._wait = self._first

    def next(self) -> float:
        wait, self._wait = self._wait, min(self._wait * 2, self._longest)
        return wait * random.uniform(0.5, 1.0)  # noqa: S311 - to spread load, not to keep a secret
