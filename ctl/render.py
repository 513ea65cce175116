"""What `ampctl` prints for people: the documented lines, to the letter."""

import os
import sys
from typing import Any

from amp_workers.ctl.fields import UNKNOWN, info_of


def is_coloured() -> bool:
    """Return whether the output is for a terminal that may have colours: https://no-color.org."""
    if not _is_terminal():
        return False
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_columns() -> int | None:
    """Return the width of the terminal that the output is for; None where there is none, or it has no size."""
    return os.get_terminal_size(sys.stdout.fileno()).columns or None if _is_terminal() else None


def shown(text: Any) -> str:
    """Return a text, safe for a terminal. A worker's texts are untrusted: any writer of the table can set them."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)


def wrapped(text: str, columns: int | None) -> list[str]:
    """Return a text in lines of a width, broken at spaces where possible."""
    lines = []
    rest = shown(text)
    while columns is not None and len(rest) > columns:
        cut = rest.rfind(" ", 1, columns + 1)
        lines.append(rest[: cut if cut > 0 else columns].rstrip())
        rest = rest[cut if cut > 0 else columns :].lstrip()
    return [*lines, rest]


def worker_line(worker: dict[str, Any]) -> str:
    """Return a worker as one line of a list."""
    return f"{shown(worker['node_id'])} (last heartbeat: {shown(worker['heartbeat_at'])})"


def worker_details(worker: dict[str, Any], more: str = "") -> str:
    """Return a worker as the lines of `inspect`; more: lines to add to the first part."""
    return f"""Node ID: {shown(worker["node_id"])}
Created: {shown(worker.get("created_at", UNKNOWN))}
Registered: {shown(worker.get("registered_at", UNKNOWN))}
Heartbeat: {shown(worker["heartbeat_at"])}
{more}
Worker Info:
  Version: {shown(info_of(worker, "version"))}
  Commit: {shown(info_of(worker, "commit_sha"))}
  Commit Timestamp: {shown(info_of(worker, "commit_timestamp"))}
  Build Date: {shown(info_of(worker, "build_date"))}"""


def _is_terminal() -> bool:
    return bool(sys.stdout and sys.stdout.isatty())  # None where it was closed before the start
