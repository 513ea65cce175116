"""The heartbeat in a thread of its own, beside whatever the main thread does."""

import signal
import threading
from collections.abc import Callable

from amp_workers.worker.heartbeat import Heartbeat
from amp_workers.worker.reaper import HEARD


class Beating(threading.Thread):
    """Runs a heartbeat.

    `registered` is called from the thread when the node id is ours; `ended` when the thread beats no longer, for
    whichever reason.
    """

    def __init__(self, heartbeat: Heartbeat, registered: Callable[[], None], ended: Callable[[], None]) -> None:
        # A daemon: it must not keep a program from ending that forgot to finish it.
        super().__init__(name="heartbeat", daemon=True)
        self.failure: BaseException | None = None
        self._heartbeat, self._tell_registered, self._tell_ended = heartbeat, registered, ended
        self._stop_asked = threading.Event()
        self._recorded = False

    def run(self) -> None:
        """Beat until `finish` is called, or until the heartbeat raises."""
        # A process that wakes from SIGSTOP may be given a signal in any thread, and the main one, which is to handle
        # it, would sleep on. The heartbeat's own thread has this mask from here.
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        try:
            self._recorded = self._heartbeat.run(self._stop_asked, self._tell_registered)
        except BaseException as failure:  # noqa: BLE001 - raised by `finish`, in a thread where somebody catches it
            self.failure = failure
        finally:
            self._tell_ended()

    def give_up(self) -> None:
        """Stop beating, whenever it comes to that, and wait for nothing."""
        self._stop_asked.set()

    def finish(self) -> bool:
        """Stop beating; return whether the stop is recorded, or raise what the heartbeat raised."""
        self._stop_asked.set()
        self.join()
        if self.failure is not None:
            raise self.failure
        return self._recorded
