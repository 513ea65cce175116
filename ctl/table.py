"""Workers as a table: for people with `--wide`, for other programs with `--output csv`."""

from collections.abc import Callable, Sequence
from typing import Any

from amp_workers.ctl.durations import duration_text
from amp_workers.ctl.fields import UNKNOWN, age_of, info_of, state_of, uptime_seconds
from amp_workers.ctl.render import shown

COLOURS = {"failed": 31, "lost": 31, "stale": 33, "stuck": 33, "active": 32, "stopped": 2, "forgotten": 2}
"""The states' SGR parameters: red, yellow, green, faint."""


def age_text(worker: dict[str, Any]) -> str:
    """Return the age of a worker's heartbeat."""
    age = age_of(worker)
    return UNKNOWN if age is None else duration_text(age)


def uptime_text(worker: dict[str, Any]) -> str:
    """Return a worker's uptime; `-` where there is none."""
    seconds = uptime_seconds(worker)
    return "-" if seconds is None else duration_text(seconds)


_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "NODE ID": lambda worker: worker["node_id"],
    "STATE": state_of,
    "AGE": age_text,
    "VERSION": lambda worker: info_of(worker, "version"),
    "UPTIME": uptime_text,
}


def table(workers: Sequence[dict[str, Any]], *, colour: bool) -> str:
    """Return a line of headings and one a worker, in columns of equal width on a terminal."""
    rows = [list(_COLUMNS), *([shown(text(worker)) for text in _COLUMNS.values()] for worker in workers)]
    widths = [[_width(cell) for cell in row] for row in rows]
    columns = [max(column) for column in zip(*widths, strict=True)]
    lines = []
    for number, (row, its_widths) in enumerate(zip(rows, widths, strict=True)):
        cells = [
            _coloured(cell) + padding if colour and number and heading == "STATE" else cell + padding
            for heading, cell, padding in zip(
                _COLUMNS,
                row,
                (" " * (column - width) for column, width in zip(columns, its_widths, strict=True)),
                strict=True,
            )
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _coloured(state: str) -> str:
    return f"\x1b[{COLOURS[state]}m{state}\x1b[0m" if state in COLOURS else state


def _width(text: str) -> int:
    """How many cells of a terminal a text takes: none a combining character, two an East Asian wide one."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(0 if category(c) in {"Mn", "Me"} else 2 if east_asian_width(c) in {"W", "F"} else 1 for c in text)


def csv(workers: Sequence[dict[str, Any]]) -> str:
    """Return all that the API says of each worker, and its uptime, which can be empty; a line of names first."""
    import csv
    import io

    names = ("node_id", "state", "heartbeat_age_seconds", "created_at", "registered_at", "heartbeat_at")
    info = ("version", "commit_sha", "commit_timestamp", "build_date")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names[:3], "uptime_seconds", *names[3:], *info])
    for worker in workers:
        first = [shown(worker.get(name, "")) for name in names[:3]]
        others = [shown(worker.get(name, "")) for name in names[3:]] + [shown(info_of(worker, name)) for name in info]
        uptime = uptime_seconds(worker)
        writer.writerow([*first, "" if uptime is None else f"{uptime:.3f}", *others])
    return text.getvalue().rstrip("\n")
