"""The heartbeat of one worker: it is registered under a lock and sent every second, in spite of outages."""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection

from amp_workers.errors import AmpError
from amp_workers.metadata_db import (
    CONNECT_TIMEOUT_SECONDS,
    ON_PURPOSE,
    Ending,
    MetadataDbError,
    MetadataDbUrl,
    UnfitSchema,
    amp_database,
    check_compatible,
    connect,
    deadline,
    single_engine,
    through_pooler,
    translate_errors,
)
from amp_workers.worker.backoff import Backoff
from amp_workers.worker.progress import ProgressReports
from amp_workers.worker.reaper import HANDLED
from amp_workers.worker.takeover import BEAT_TIMEOUT_SECONDS, NodeIdClaim

INTERVAL_SECONDS = 1.0

STOP_SECONDS = 4.0
"""How long recording a stop may take."""

_STOP_MARGIN_SECONDS = 0.5
"""Before the end of STOP_SECONDS, in which no further attempt begins."""

BACKOFF_SECONDS = (0.2, 0.9)
"""The first wait and the longest one before the next attempt to connect, each cut by a random part."""

_POOLED = (
    "'%s' sends heartbeats through a connection pooler, which may give each transaction another session: the lock on "
    "its node id cannot be held. Two processes still never send heartbeats for one node id, and a second one is "
    "refused while the first sends them. But a worker of Amp's own finds no lock, and takes the node id over at once"
)

_log = logging.getLogger("amp_workers.worker")


class AmpDatabaseRefused(AmpError):
    """The metadata DB is Amp's own, and the worker was not started with `join_amp_fleet`."""


class Heartbeat:
    """Sends the heartbeats of one worker from a thread of its own. It is started once.

    It retries for as long as the database is unavailable.
    """

    def __init__(
        self,
        url: MetadataDbUrl,
        node_id: str,
        info: Mapping[str, str],
        *,
        join_amp_fleet: bool = False,
        progress: ProgressReports | None = None,
        turned: Callable[[MetadataDbError | None], None] = lambda _: None,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        """join_amp_fleet: register even in a database that is Amp's own.
        progress: what the worker reports about its work, written with the heartbeats; None where it reports nothing.
        turned: called from the thread after each heartbeat, and with the error after each attempt that failed.
        stopping: called when a stop is about to be recorded, or when the heartbeat has failed.
        """
        self._node_id = node_id
        self._join_amp_fleet = join_amp_fleet
        self._turned, self._stopping = turned, stopping
        self._engine = single_engine(url, f"ampd worker {node_id}", statement_timeout=BEAT_TIMEOUT_SECONDS)
        self._claim = NodeIdClaim(node_id, info, progress or ProgressReports())
        self._stop = threading.Event()
        self._stop_ends = math.inf
        self._ending = ON_PURPOSE
        self._thread: threading.Thread | None = None
        self._is_recorded = False
        self._silent_since: float | None = None
        self._troubles: set[str] = set()
        self._pooler_logged = False
        self._unrecorded_logged = False
        self.failure: BaseException | None = None
        """Why the thread ended without being stopped: what `finish` raises."""

    @property
    def is_running(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, registered: Callable[[], None] = lambda: None, ended: Callable[[], None] = lambda: None) -> None:
        """Start to send heartbeats.

        Both are called from the thread: `registered` once, as soon as the node id is this process's own; `ended` when
        the thread sends no more heartbeats, for any reason.
        """
        # A daemon: a program that never calls `finish` must be able to end.
        self._thread = threading.Thread(target=self._run, args=(registered, ended), name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self, ending: Ending) -> None:
        """Make the thread stop and record the ending, without waiting for it. Safe to call before `start` returns."""
        self._ending = ending
        self._stop_ends = time.monotonic() + STOP_SECONDS - _STOP_MARGIN_SECONDS
        self._stop.set()

    def finish(self, ending: Ending = ON_PURPOSE) -> bool:
        """Stop; return, at most STOP_SECONDS later, whether the stop is recorded, and how the worker ended.

        A worker that never registered has nothing to record, which counts as recorded.

        Raises:
            NodeIdTaken: at the start, another process held the node id.
            AmpDatabaseRefused: at the start, the metadata DB is Amp's own.
            UnfitSchema: at the start, the `workers` table is one in which no worker can register.
            FencedOut: later, another process took it over.
        """
        self.stop(ending)
        assert self._thread is not None
        if ending.failure is not None and self.failure is None and self._claim.registered_at is not None:
            fields = {"node_id": self._node_id, "reason": ending.failure, "exit_code": ending.exit_code}
            _log.error("'%s' failed: %s", self._node_id, ending.failure, extra=fields)
        if self._thread.is_alive():
            self._stopping()
        # A name resolution that hangs cannot be interrupted in another way.
        self._thread.join(STOP_SECONDS)
        if self.failure is not None:
            raise self.failure
        if self._thread.is_alive():
            if self._claim.registered_at is None:
                return True
            self._log_unrecorded(f"the metadata DB did not answer within {STOP_SECONDS:.0f} s")
            return False
        return self._is_recorded

    def _run(self, registered: Callable[[], None], ended: Callable[[], None]) -> None:
        # A process that wakes from SIGSTOP may be given a signal in any thread, and the main one, which is to handle
        # it, would sleep on.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            self._is_recorded = self._beat_until_stopped(registered)
        except BaseException as failure:  # noqa: BLE001 - raised by `finish`, in a thread that can catch it
            self.failure = failure
            self._stopping()
        finally:
            ended()

    def _beat_until_stopped(self, registered: Callable[[], None]) -> bool:
        backoff = Backoff(*BACKOFF_SECONDS)
        is_registered = False
        while not self._stop.is_set():
            try:
                with self._session() as connection:
                    self._check_database(connection)
                    if not self._claim.take(connection, self._stop):
                        break
                    if not is_registered:
                        registered()
                        is_registered = True
                    backoff.reset()
                    self._log_recovery()
                    self._beat(connection)
                    return self._record_stop(connection)
            except MetadataDbError as error:
                if isinstance(error, UnfitSchema) and self._claim.registered_at is None:
                    raise
                self._log_trouble(error)
                self._turned(error)
            self._stop.wait(backoff.next())
        return self._record_late_stop()

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        with translate_errors():
            connection = connect(self._engine, CONNECT_TIMEOUT_SECONDS)
        try:
            with translate_errors():
                yield connection
        finally:
            connection.close()

    def _check_database(self, connection: Connection) -> None:
        """Raise an error where this worker cannot or must not register."""
        if through_pooler(connection) and not self._pooler_logged:
            self._pooler_logged = True
            _log.warning(_POOLED, self._node_id)
        may_join = self._join_amp_fleet or self._claim.registered_at is not None
        with deadline(connection, BEAT_TIMEOUT_SECONDS):
            amp = None if may_join else amp_database(connection)
            if amp is None or amp.has_visible_workers:
                check_compatible(connection)
        if amp is not None:
            raise AmpDatabaseRefused(
                f"the metadata DB is Amp's own ({amp}). Amp's scheduler assigns jobs to every worker with a fresh "
                "heartbeat, and this worker executes none of them. Use another database; or, if the jobs of that "
                "fleet are pinned to other workers, join it with --join-amp-fleet (in Python: join_amp_fleet=True)"
            )

    def _beat(self, connection: Connection) -> None:
        due = time.monotonic() + INTERVAL_SECONDS
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            if not self._claim.beat(connection) and not self._claim.take(connection, self._stop):
                return
            _log.debug("'%s' sent a heartbeat", self._node_id)
            self._turned(None)
            due = next_due(due, time.monotonic())

    def _record_stop(self, connection: Connection) -> bool:
        problem = self._claim.record_stop(connection, self._ending)
        if problem is None:
            _log.info("'%s' stopped", self._node_id, extra={"node_id": self._node_id})
            return True
        self._log_unrecorded(problem)
        return False

    def _record_late_stop(self) -> bool:
        """Record a stop during an outage: retry until time is up. The fencing token needs no lock."""
        if self._claim.registered_at is None:
            return True
        backoff = Backoff(*BACKOFF_SECONDS)
        while True:
            try:
                with self._session() as connection:
                    return self._record_stop(connection)
            except MetadataDbError as error:
                reason = str(error)
            wait = backoff.next()
            if time.monotonic() + wait > self._stop_ends:
                self._log_unrecorded(reason)
                return False
            time.sleep(wait)

    def _log_unrecorded(self, reason: str) -> None:
        # `finish` may have logged it already, and left this thread behind.
        if self._unrecorded_logged:
            return
        self._unrecorded_logged = True
        fields = {"node_id": self._node_id, "reason": reason}
        _log.error("the stop of '%s' could not be recorded: %s", self._node_id, reason, extra=fields)

    def _log_trouble(self, error: MetadataDbError) -> None:
        """Log each reason once in an outage, not once for each attempt."""
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        if error.reason not in self._troubles:
            self._troubles.add(error.reason)
            fields = {"node_id": self._node_id, "reason": error.reason}
            _log.warning("'%s' cannot send heartbeats, and retries: %s", self._node_id, error, extra=fields)

    def _log_recovery(self) -> None:
        if self._silent_since is not None:
            silent = time.monotonic() - self._silent_since
            # At the level of the trouble: a log of warnings shows the end of each outage as well.
            _log.warning(
                "'%s' sends heartbeats again after %.1f s", self._node_id, silent, extra={"node_id": self._node_id}
            )
        self._silent_since = None
        self._troubles.clear()
        self._turned(None)


def next_due(due: float, now: float) -> float:
    """Return when the next heartbeat is due: on the schedule of `due`, after `now`. Missed ones are not made up."""
    return due + INTERVAL_SECONDS * (math.floor((now - due) / INTERVAL_SECONDS) + 1)
