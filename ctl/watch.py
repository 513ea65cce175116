"""The same again and again: redrawn in place on a terminal, one after the other elsewhere."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import click

from amp_workers.ctl.durations import duration_text
from amp_workers.ctl.errors import ApiError
from amp_workers.ctl.render import is_coloured

Look = Callable[[], tuple[str, str]]
"""Returns a heading and what is below it. Raises ApiError."""

# DEC private modes: the alternate screen, which gives the shell's back afterwards; no cursor; long lines cut off.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


def watch(look: Look, interval_seconds: float) -> NoReturn:
    """Show what `look` returns every so many seconds, until SIGINT or SIGTERM, which is an exit with 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _quit)
    if sys.stdout and sys.stdout.isatty():
        _redraw(look, interval_seconds)
    _append(look, interval_seconds)


def _quit(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave the terminal as it is
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def _redraw(look: Look, interval_seconds: float) -> NoReturn:
    first, heading, body, seen = "", "", "", time.monotonic()

    def draw(_number: int = 0, _frame: FrameType | None = None) -> None:
        rows = os.get_terminal_size(sys.stdout.fileno()).lines
        lines = [first, "", *body.split("\n")]
        if len(lines) > rows > 0:
            lines[rows - 1 :] = [f"… {len(lines) - rows + 1} more"]
        _write("\x1b[H" + "\x1b[K\n".join(lines) + "\x1b[K\x1b[J")

    def suspend(_number: int, _frame: FrameType | None) -> None:
        _write(_LEAVE)
        os.kill(os.getpid(), signal.SIGSTOP)
        _write(_ENTER)
        draw()

    signal.signal(signal.SIGTSTP, suspend)
    signal.signal(signal.SIGWINCH, draw)
    try:
        _write(_ENTER)
        while True:
            try:
                heading, body = look()
                seen = time.monotonic()
                first = f"{heading}  (every {interval_seconds:g}s, Ctrl-C ends)"
            except ApiError as error:
                known = f"below is from {duration_text(time.monotonic() - seen)} ago" if heading else "nothing seen yet"
                first = f"\x1b[31m{known}: {error}\x1b[0m" if is_coloured() else f"{known}: {error}"
            draw()
            time.sleep(interval_seconds)
    finally:
        with suppress(OSError):  # the terminal has been closed
            _write(_LEAVE)


def _write(text: str) -> None:
    # Not through sys.stdout, in which a signal's handler must not write while it writes.
    rest = text.encode(errors="replace")
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


def _append(look: Look, interval_seconds: float) -> NoReturn:
    away = False
    rounds = 0
    while True:
        try:
            _, body = look()
        except ApiError as error:
            if not away:
                click.echo(f"{error}; trying again every {interval_seconds:g}s", err=True)
            away = True
        else:
            if away:
                click.echo("the Admin API answers again", err=True)
            away = False
            click.echo(f"\n{body}" if rounds else body)
            rounds += 1
        time.sleep(interval_seconds)
