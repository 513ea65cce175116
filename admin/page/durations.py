"""Durations and ages, as the page shows them. The page's script has the same rules, for the ages that tick."""

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def duration_text(seconds: float) -> str:
    """Return a duration in whole seconds, or in its two largest units: `4s`, `1m30s`, `30d2h`."""
    rest, parts = int(seconds), list[tuple[int, str]]()
    for unit, size in _UNITS.items():
        number, rest = divmod(rest, size)
        parts.append((number, unit))
    first = next((index for index, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return "".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number) or "0s"


def age_text(seconds: float) -> str:
    """Return an age: `4s ago`, or `3s in the future`, where a heartbeat lies there."""
    return f"{duration_text(-seconds)} in the future" if seconds <= -1 else f"{duration_text(max(seconds, 0))} ago"
