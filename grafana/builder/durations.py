"""Durations as PromQL writes them."""

from datetime import timedelta


def promql(duration: timedelta) -> str:
    """Return `30m`, `20s` and the like: whole hours, minutes or seconds."""
    seconds = int(duration.total_seconds())
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds % size == 0 and seconds:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
