"""A worker inside an extraction program that is written in Python."""

import logging
import os
import threading
from types import TracebackType
from typing import Self

from amp_workers.metadata_db import MetadataDbUrl, check_node_id
from amp_workers.worker.beating import Beating
from amp_workers.worker.build_info import build_info
from amp_workers.worker.heartbeat import Heartbeat
from amp_workers.worker.takeover import FencedOut

_log = logging.getLogger("amp_workers.worker")


class Worker:
    """Beats from a thread for as long as a `with` block runs, and the interpreter lets threads take turns.

    C code that holds the GIL holds the beats up, for how long is in docs/performance.md; `Program` knows no such limit.

    Entering returns once the worker has registered, however long the metadata DB is away; with `timeout`, after so
    many seconds at most. Leaving records the stop; a stop that could not be recorded is logged as an error, and raises
    nothing. No signal handler is installed. Not to be entered twice.

    A process forked inside the block has no part in it: it does not beat, and leaving the block there does nothing.
    But it holds the session open, should the program be killed before it, until another worker ends that; and one that
    is forked while the thread writes a line of its log can hang when it ends, as beside any thread that logs (CPython
    copies a held lock of stderr). `subprocess` and multiprocessing's "spawn" know neither.

    Raises:
        InvalidNodeId, InvalidMetadataDbUrl: at once; both are ValueErrors.
        NodeIdTaken: on entering, another process holds the node id.
        UnfitSchema: on entering, the `workers` table is too old (upgrade Amp), or is not Amp's.
        TimeoutError: on entering, not registered in time.
        FencedOut: on leaving, whatever the block itself raised: another process took the node id over.
    """

    def __init__(self, *, node_id: str, metadata_db_url: str, timeout: float | None = None) -> None:
        self._node_id = check_node_id(node_id)
        self._url = MetadataDbUrl.parse(metadata_db_url)
        self._timeout = timeout
        self._process = os.getpid()
        self._settled = threading.Event()
        heartbeat = Heartbeat(self._url, node_id, build_info(os.environ))
        self._beating = Beating(heartbeat, registered=self._settled.set, ended=self._end)

    @property
    def fenced(self) -> bool:
        """Whether another process has the node id by now: the program is to stop what it does under it."""
        return isinstance(self._beating.failure, FencedOut)

    def __enter__(self) -> Self:
        try:
            self._beating.start()
            settled = self._settled.wait(self._timeout)
        except BaseException:
            self._beating.give_up()
            if self._beating.is_alive():
                self._beating.finish()
            raise
        if not settled:
            self._beating.give_up()
            raise TimeoutError(f"worker '{self._node_id}' did not register in {self._url} within {self._timeout} s")
        if self._beating.failure is not None:
            self._beating.finish()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # In a forked process there is no thread to finish, and a lock of its may have been held when it was copied.
        if os.getpid() == self._process:
            self._beating.finish()

    def _end(self) -> None:
        failure = self._beating.failure
        if failure is not None and self._settled.is_set():
            # The program will hear of it on leaving, which may be hours away.
            _log.error("'%s' beats no longer: %s", self._node_id, failure)
        self._settled.set()
