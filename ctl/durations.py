"""Durations as people write them: `5s`, `1m30s`, `2h`, `30d`."""

import re

from amp_workers.errors import AmpError

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class InvalidDuration(AmpError, ValueError):
    """The text is no duration; the message says what one is."""


def parse_duration(text: str) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidDuration: the text is none.
    """
    found = re.fullmatch(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?", text, re.ASCII)
    if found is None or not text:
        raise InvalidDuration(f"{text!r} is no duration: write 5s, 1m30s, 2h or 30d")
    return sum(float(number or 0) * each for number, each in zip(found.groups(), _SECONDS.values(), strict=True))


def duration_text(seconds: float) -> str:
    """Return a duration in whole seconds, or in its two largest units: `4s`, `1m30s`, `30d2h`."""
    rest = max(int(seconds), 0)
    parts = []
    for unit, each in _SECONDS.items():
        number, rest = divmod(rest, each)
        parts.append(f"{number}{unit}" if number else "")
    first = next((index for index, part in enumerate(parts) if part), len(parts) - 1)
    return "".join(parts[first : first + 2]) or "0s"
