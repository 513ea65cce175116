"""What a main thread waits for a signal with."""

import os
import select
import threading
from contextlib import suppress

_LOOK_SECONDS = 1.0


class Alert(threading.Event):
    """An event that a signal's handler may set, whatever the main thread is doing.

    The handler interrupts that thread. If it is in the middle of waiting for an Event, or of setting one for a signal a
    moment before, it holds the Event's lock, and the handler would wait for that for ever. A pipe has no lock.

    A process that was just forked has the handlers still, and the same pipe: a signal that it gets wakes nobody.

    A process that wakes from SIGSTOP may be given a signal in any thread, and its main one, which is to handle it,
    would sleep on: it wakes every second to see whether there was one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def is_set(self) -> bool:
        return bool(select.select([self._read], [], [], 0)[0])

    def set(self) -> None:
        if os.getpid() != self._process:
            return
        with suppress(BlockingIOError):  # it is full, and so set many times over
            os.write(self._write, b"\0")

    def clear(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - the base's signature
        while not select.select([self._read], [], [], _LOOK_SECONDS)[0]:
            pass
        return True
