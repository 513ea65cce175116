"""Durations as PromQL writes them."""

from datetime import timedelta


def promql(duration: timedelta) -> str:
    """Return `30m`, `20s`, `2500ms` and the like: whole hours, minutes, seconds or milliseconds."""
    milliseconds = duration // timedelta(milliseconds=1)
    for size, unit in ((3_600_000, "h"), (60_000, "m"), (1000, "s")):
        if milliseconds % size == 0 and (milliseconds or unit == "s"):
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
