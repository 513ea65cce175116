"""A worker inside an extraction program that is written in Python."""

import logging
import os
import threading
from types import TracebackType
from typing import Self

from amp_workers.build_info import build_info
from amp_workers.metadata_db import MetadataDbUrl, check_node_id
from amp_workers.worker.ending import ending_of_block
from amp_workers.worker.heartbeat import Heartbeat
from amp_workers.worker.progress import LONGEST_WATCHDOG_SECONDS, ProgressReports
from amp_workers.worker.takeover import FencedOut

_log = logging.getLogger("amp_workers.worker")


class Worker:
    """Sends heartbeats from a thread for as long as a `with` block runs.

    Entering returns once the worker has registered, however long the metadata DB is unavailable; `timeout` limits that,
    in seconds. Leaving records the stop; a stop that could not be recorded is logged as an error, and raises nothing.
    The stop is on purpose if no exception leaves the block, or `KeyboardInterrupt`, or `SystemExit` with 0 or None.
    Any other exception is recorded as a failure: by its type, never its message; `SystemExit` by its exit code. Put the
    block around `asyncio.run()`: inside of it, Ctrl-C is a `CancelledError`, as is the failure of another task.
    `watchdog` is a promise to call `progress` at least that often, in seconds: a worker that breaks it is `stuck`. The
    promise begins on entering. One late heartbeat breaks a promise of less than 5 s. No signal handler is installed. A
    `Worker` can be entered once.

    C code that holds the GIL delays the heartbeats: docs/performance.md has figures. A worker that runs its program in
    another process, as `ampd worker` does, has no such limit.

    A process that is forked inside the block sends no heartbeats, and leaving the block there does nothing. But it
    keeps the session open: if the program is killed before it, the next worker ends that session. A process that is
    forked while the thread writes a log line can hang when it ends, because CPython copies a held lock of stderr.
    `subprocess` and multiprocessing's "spawn" have neither problem.

    Raises:
        InvalidNodeId, InvalidMetadataDbUrl: at once; both are ValueErrors.
        ValueError: at once, `watchdog` is not a number of seconds from 0 to 1,000,000.
        NodeIdTaken: on entering, another process holds the node id.
        AmpDatabaseRefused: on entering, the metadata DB is Amp's own, and `join_amp_fleet` is false.
        UnfitSchema: on entering, the `workers` table is too old (upgrade Amp), or is not Amp's.
        TimeoutError: on entering, not registered in time.
        FencedOut: on leaving, whatever the block itself raised: another process took the node id over.
    """

    def __init__(
        self,
        *,
        node_id: str,
        metadata_db_url: str,
        timeout: float | None = None,
        watchdog: float | None = None,
        join_amp_fleet: bool = False,
    ) -> None:
        if watchdog is not None and not 0 < watchdog <= LONGEST_WATCHDOG_SECONDS:
            raise ValueError(
                f"watchdog={watchdog!r}: not a number of seconds from 0 to {LONGEST_WATCHDOG_SECONDS:,.0f}"
            )
        self._node_id = check_node_id(node_id)
        self._url = MetadataDbUrl.parse(metadata_db_url)
        self._timeout = timeout
        self._process: int | None = None
        self._settled = threading.Event()
        self._progress = ProgressReports(watchdog)
        self._heartbeat = Heartbeat(
            self._url, node_id, build_info(os.environ), join_amp_fleet=join_amp_fleet, progress=self._progress
        )

    @property
    def fenced(self) -> bool:
        """Whether another process has taken over the node id: the program should stop its work."""
        return isinstance(self._heartbeat.failure, FencedOut)

    def progress(self, text: str | None = None) -> None:
        """Report progress, from any thread and at any rate: the next heartbeat writes it.

        text: what the worker does, cut to 200 characters; None leaves the text as it is.
        """
        if text is not None:
            self._progress.describe(text)
        self._progress.advance()

    def __enter__(self) -> Self:
        self._process = os.getpid()
        try:
            self._heartbeat.start(registered=self._begin, ended=self._end)
            settled = self._settled.wait(self._timeout)
        except BaseException as error:
            ending = ending_of_block(error)
            self._heartbeat.stop(ending)
            if self._heartbeat.is_running:
                self._heartbeat.finish(ending)
            raise
        if not settled:
            late = TimeoutError(f"worker '{self._node_id}' did not register in {self._url} within {self._timeout} s")
            self._heartbeat.stop(ending_of_block(late))
            raise late
        if self._heartbeat.failure is not None:
            self._heartbeat.finish()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A forked process has no thread to finish, and a lock of the thread may have been held when it was copied.
        if os.getpid() == self._process:
            self._heartbeat.finish(ending_of_block(error))

    def _begin(self) -> None:
        self._progress.begin()
        self._settled.set()

    def _end(self) -> None:
        failure = self._heartbeat.failure
        if failure is not None and self._settled.is_set():
            # Leaving the block raises it, perhaps hours later.
            _log.error("'%s' no longer sends heartbeats: %s", self._node_id, failure, extra={"node_id": self._node_id})
        self._settled.set()
