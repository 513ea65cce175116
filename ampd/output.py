"""Standard output and error that never block this process, however slowly they are read.

A terminal that is stopped by Ctrl-S, a pipe that nobody reads and a log collector that hangs block every write to them,
for ever. A heartbeat must not wait for that, and neither must a stop.
"""

import atexit
import io
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LIMIT_BYTES = 1024 * 1024
"""What waits to be written, at most. More is dropped, and the number of lines is reported."""

_EXIT_SECONDS, _STALL_SECONDS = 3.0, 0.4
"""How long the end of the process waits for what is queued: in all, and while nobody reads."""

_LOOK_SECONDS = 0.1

_streams: list["_Output"] = []


def unblocked(descriptor: int, dropped: Callable[[int], str]) -> TextIO:
    """Return a text stream that writes to a descriptor from a thread, and drops lines rather than wait.

    dropped: returns the line that reports so many dropped lines.
    """
    _open_up_to(descriptor)
    output = _Output(descriptor, dropped)
    _streams.append(output)
    return io.TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", write_through=True)


def drain() -> None:
    """Wait for what is still to be written, unless nobody reads it."""
    for stream in _streams:
        stream.drain()


class _Output(io.RawIOBase):
    """A bounded queue. A thread writes for as long as something is queued, so that a quiet process has none."""

    def __init__(self, descriptor: int, dropped: Callable[[int], str]) -> None:
        self._descriptor, self._describe_dropped = descriptor, dropped
        self.name = descriptor
        self._changed = threading.Condition()
        self._reset()
        os.register_at_fork(
            before=self._changed.acquire, after_in_parent=self._changed.release, after_in_child=self._after_fork
        )

    def _reset(self) -> None:
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._dropped_lines = 0
        self._is_accepted = True
        self._thread: threading.Thread | None = None

    def _after_fork(self) -> None:
        """What was queued is the parent's, which has the thread that writes it."""
        self._changed = threading.Condition()
        self._reset()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: "ReadableBuffer") -> int:
        text = bytes(data)
        with self._changed:
            if self._queue and self._queued_bytes + len(text) > _LIMIT_BYTES:
                self._dropped_lines += _lines(text)
            else:
                self._report_dropped()
                self._append(text)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="output", daemon=True)
                    self._thread.start()
        return len(text)

    def drain(self) -> None:
        """Wait until all is written, for at most _EXIT_SECONDS, and not for a reader that does not read."""
        ends = time.monotonic() + _EXIT_SECONDS
        stalled_since: float | None = None
        with self._changed:
            while self._queue and time.monotonic() < ends:
                # A busy machine may be slow to run the thread; only a full descriptor shows that nobody reads.
                if self._changed.wait(_LOOK_SECONDS) or self._is_writable():
                    stalled_since = None
                elif stalled_since is None:
                    stalled_since = time.monotonic()
                elif time.monotonic() - stalled_since > _STALL_SECONDS:
                    return

    def _is_writable(self) -> bool:
        looking = select.poll()
        looking.register(self._descriptor, select.POLLOUT)
        return bool(looking.poll(0))

    def _append(self, text: bytes) -> None:
        self._queue.append(text)
        self._queued_bytes += len(text)

    def _report_dropped(self) -> None:
        if self._dropped_lines:
            self._append(self._describe_dropped(self._dropped_lines).encode() + b"\n")
            self._dropped_lines = 0

    def _run(self) -> None:
        # A signal that is delivered to this thread would not wake the main thread, which handles it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            with self._changed:
                if not self._queue and self._is_accepted:
                    self._report_dropped()
                if not self._queue:
                    self._thread = None
                    return
                text = self._queue[0]
            is_accepted = _write(self._descriptor, text)
            with self._changed:
                self._queue.popleft()
                self._queued_bytes -= len(text)
                self._is_accepted = is_accepted
                if not is_accepted:
                    self._dropped_lines += _lines(text)
                self._changed.notify_all()


def _write(descriptor: int, text: bytes) -> bool:
    """Write all of a text, and return whether it was accepted: a pipe may be closed, a disk full."""
    while text:
        try:
            text = text[os.write(descriptor, text) :]
        except BlockingIOError:  # another process that has the same terminal or pipe made it non-blocking
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()
        except OSError:
            return False
    return True


def _lines(text: bytes) -> int:
    return max(1, text.count(b"\n"))


def _open_up_to(descriptor: int) -> None:
    """Open /dev/null in place of a standard stream that is closed: the next file or socket would get its number."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= descriptor:
        os.set_inheritable(opened, True)
    os.close(opened)


atexit.register(drain)
