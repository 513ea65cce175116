"""Standard output and error that never block this process.

A terminal that is stopped by Ctrl-S, a pipe without a reader and a log collector that hangs block every write. No
heartbeat and no stop may wait for them.
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
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LIMIT_BYTES = 1024 * 1024
"""Limit of the queue. Lines beyond it are dropped, and their number is reported."""

_EXIT_SECONDS, _STALL_SECONDS = 3.0, 0.4
"""How long the process waits at its end for the queue to be written: in all, and while the descriptor is full."""

_POLL_SECONDS = 0.1

_streams: list["_Output"] = []


def unblocked(descriptor: int, dropped: Callable[[int], str]) -> TextIO:
    """Return a text stream that writes to a descriptor from a thread, and drops lines when its queue is full.

    dropped: returns the line that reports so many dropped lines.
    """
    _open_up_to(descriptor)
    output = _Output(descriptor, dropped)
    _streams.append(output)
    return io.TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", write_through=True)


def drain() -> None:
    """Wait until the queues are written, or until their descriptors have been full for too long."""
    for stream in _streams:
        stream.drain()


class _Output(io.RawIOBase):
    """A bounded queue and a thread that writes it. The thread ends when the queue is empty."""

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
        """Discard the queue in the child: the parent writes it."""
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
                self._start_thread()
        return len(text)

    def drain(self) -> None:
        """Wait until the queue is written: at most _EXIT_SECONDS, and _STALL_SECONDS while the descriptor is full."""
        ends = time.monotonic() + _EXIT_SECONDS
        stalled_since: float | None = None
        with self._changed:
            if self._thread is None:
                self._write_rest(ends)
            while self._queue and time.monotonic() < ends:
                # Under load the thread may run late. Only a full descriptor shows that nothing reads.
                if self._changed.wait(_POLL_SECONDS) or self._is_writable():
                    stalled_since = None
                elif stalled_since is None:
                    stalled_since = time.monotonic()
                elif time.monotonic() - stalled_since > _STALL_SECONDS:
                    return

    def _start_thread(self) -> None:
        """Start the thread; where the limit of processes is reached, the next write tries it again."""
        thread = threading.Thread(target=self._run, name="output", daemon=True)
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def _write_rest(self, ends: float) -> None:
        """Write the queue without a thread, in pieces that do not block on a descriptor that is writable."""
        self._report_dropped()
        rest = b"".join(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        with suppress(OSError):
            while rest and time.monotonic() < ends and self._is_writable(_STALL_SECONDS):
                rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]

    def _is_writable(self, seconds: float = 0.0) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def _append(self, text: bytes) -> None:
        self._queue.append(text)
        self._queued_bytes += len(text)

    def _report_dropped(self) -> None:
        if self._dropped_lines:
            self._append(self._describe_dropped(self._dropped_lines).encode() + b"\n")
            self._dropped_lines = 0

    def _run(self) -> None:
        # A signal delivered to this thread would not wake the main thread, which handles signals.
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
    """Write all of a text; return False where that fails: the pipe is closed, or the disk is full."""
    while text:
        try:
            text = text[os.write(descriptor, text) :]
        except BlockingIOError:  # another process made the shared terminal or pipe non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except OSError:
            return False
    return True


def _lines(text: bytes) -> int:
    return max(1, text.count(b"\n"))


def _open_up_to(descriptor: int) -> None:
    """Open /dev/null for standard streams that are closed: otherwise the next file or socket gets their numbers."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= descriptor:
        os.set_inheritable(opened, True)
    os.close(opened)


atexit.register(drain)
