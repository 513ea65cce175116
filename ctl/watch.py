"""A view that refreshes: redrawn in place on a terminal, where it scrolls; appended round by round elsewhere."""

import os
import queue
import re
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NamedTuple, NoReturn

import click

from amp_workers.ctl.durations import duration_text
from amp_workers.ctl.errors import AmpsOwnApi, ApiError
from amp_workers.ctl.polling import poll
from amp_workers.ctl.render import is_coloured, wrapped

# DEC private modes: the alternate screen; no cursor; long lines are cut.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"

_KEYS = re.compile(rb"\x1b[\[O]([ABHF])|\x1b\[([1456])~|([ -~])")

_UP, _DOWN, _PAGE_UP, _PAGE_DOWN, _TOP, _BOTTOM = ("A", "k"), ("B", "j"), ("5", "b"), ("6", " "), "Hg1", "FG4"


class Frame(NamedTuple):
    """The result of one look."""

    summary: str
    url: str
    render: Callable[[], str]
    """Returns the body in the present width of the terminal."""

    pinned: int
    """How many of its first lines stay when the others scroll."""


Look = Callable[[], Frame]
"""Raises ApiError."""


def watch(look: Look, interval_seconds: float) -> None:
    """Show the frames that `look` returns, one per interval; SIGINT, SIGTERM and q exit with 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _quit)
    if sys.stdout and sys.stdout.isatty():
        _Screen(look, interval_seconds).run()
    _append(look, interval_seconds)


def _quit(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not interrupt the restoring of the terminal
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


class _Screen:
    """The terminal while the view is on it. The look runs in a thread, so that keys work during a slow one."""

    def __init__(self, look: Look, interval_seconds: float) -> None:
        self._look, self._interval_seconds = look, interval_seconds
        self._looks: queue.SimpleQueue[Frame | Exception] = queue.SimpleQueue()
        self._frame: Frame | None = None
        self._trouble: ApiError | None = None
        self._seen = time.monotonic()
        self._offset = self._last_offset = 0
        self._page = 1
        self._lines: list[str] = []
        self._looking, self._next_look = False, 0.0
        self._suspended = False
        self._woken, self._wake = os.pipe()  # self-pipe: signals and finished looks end the select
        os.set_blocking(self._wake, False)

    def run(self) -> NoReturn:
        signal.signal(signal.SIGTSTP, self._suspend)
        signal.signal(signal.SIGWINCH, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            while True:
                with _single_keys() as keys:
                    _write(_ENTER)
                    self._refresh_until_suspended(keys)
                _write(_LEAVE)
                os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            with suppress(OSError):  # the terminal has been closed
                # The last frame stays in the terminal's scrollback.
                _write(_LEAVE + "".join(f"{line}\n" for line in self._lines))

    def _refresh_until_suspended(self, keys: int | None) -> None:
        self._draw()
        while not self._suspended:
            if not self._looking and time.monotonic() >= self._next_look:
                self._looking = True
                threading.Thread(target=self._look_once, daemon=True).start()
            wait = 1.0 if self._looking else min(1.0, max(self._next_look - time.monotonic(), 0.0))
            ready, _, _ = select.select([self._woken] if keys is None else [self._woken, keys], [], [], wait)
            if self._woken in ready:
                os.read(self._woken, 4_096)
            if keys is not None and keys in ready:
                self._press(os.read(keys, 4_096))
            with suppress(queue.Empty):
                self._take(self._looks.get_nowait())
                self._looking, self._next_look = False, time.monotonic() + self._interval_seconds
            if ready or self._trouble is not None:
                self._draw()
        self._suspended = False

    def _look_once(self) -> None:
        try:
            self._looks.put(self._look())
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            self._looks.put(error)
        with suppress(OSError):  # full: there is something to read
            os.write(self._wake, b"\0")

    def _take(self, found: Frame | Exception) -> None:
        if isinstance(found, ApiError) and not isinstance(found, AmpsOwnApi):
            self._trouble = found
        elif isinstance(found, Exception):
            raise found
        else:
            self._frame, self._trouble, self._seen = found, None, time.monotonic()

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        self._suspended = True

    def _press(self, typed: bytes) -> None:
        for found in _KEYS.finditer(typed):
            key = (found[1] or found[2] or found[3]).decode()
            if key == "q":
                sys.exit(0)
            moved = (key in _DOWN) - (key in _UP) + self._page * ((key in _PAGE_DOWN) - (key in _PAGE_UP))
            offset = 0 if key in _TOP else self._last_offset if key in _BOTTOM else self._offset + moved
            self._offset = min(max(offset, 0), self._last_offset)

    def _draw(self) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        # One row is left for the shell's prompt, which follows the last frame.
        rows, columns = max(size.lines - 1, 1) if size.lines else sys.maxsize, size.columns or sys.maxsize
        head = [*self._head(columns), ""]
        body = self._frame.render().split("\n") if self._frame is not None else []
        pinned = self._frame.pinned if self._frame is not None else 0
        foot: list[str] = []
        if len(head) + len(body) > rows:
            self._page = max(rows - len(head) - pinned - 1, 1)
            self._last_offset = len(body) - pinned - self._page
            self._offset = min(self._offset, self._last_offset)
            first = pinned + self._offset
            last = first + self._page
            foot = [f"{first - pinned + 1}-{last - pinned} of {len(body) - pinned}  (arrows, PgUp, PgDn)"]
            body = body[:pinned] + body[first:last]
        else:
            self._offset = self._last_offset = 0
        self._lines = (head + body + foot)[:rows]
        # A line is erased before it is written: afterwards, the cursor can still be on its last cell.
        _write("\x1b[H" + "\n".join(f"\x1b[2K{line}" for line in self._lines) + "\x1b[J")

    def _head(self, columns: int) -> list[str]:
        frame, trouble = self._frame, self._trouble
        if trouble is not None:
            age = f"below is from {duration_text(time.monotonic() - self._seen)} ago"
            text = f"{age if frame is not None else 'nothing seen yet'}: {trouble.cause}"
            lines = wrapped(text if trouble.url is None else f"{text} ({trouble.url})", columns)
            return [f"\x1b[31m{line}\x1b[0m" for line in lines] if is_coloured() else lines
        if frame is None:
            return ["waiting for the first answer"]
        return wrapped(f"{frame.summary}  (every {self._interval_seconds:g}s, q ends)  {frame.url}", columns)


@contextmanager
def _single_keys() -> Iterator[int | None]:
    """Have the terminal deliver each key at once, without echo; yield its descriptor, None without a terminal.

    Ctrl-C and Ctrl-Z keep their meaning.
    """
    if not (sys.stdin and sys.stdin.isatty()):
        yield None
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    ours = termios.tcgetattr(keys)
    ours[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(keys, termios.TCSANOW, ours)
    try:
        yield keys
    finally:
        with suppress(termios.error):  # the terminal has been closed
            termios.tcsetattr(keys, termios.TCSANOW, before)


def _write(text: str) -> None:
    # Not through sys.stdout, which may hold a part of a frame when a signal ends the process.
    rest = text.encode(errors="replace")
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


def _append(look: Look, interval_seconds: float) -> None:
    for number, frame in enumerate(poll(look, interval_seconds)):
        body = frame.render()
        click.echo(f"\n{body}" if number else body)
