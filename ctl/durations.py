"""Durations as Prometheus and Kubernetes write them: `5s`, `1m30s`, `2h`, `30d`."""

import re

from amp_workers.errors import AmpError

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}

_UNITS = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?", re.ASCII)
_BARE = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


class InvalidDuration(AmpError, ValueError):
    """The text is not a duration. The message has examples."""


def parse_duration(text: str) -> float:
    """Return a duration in seconds. A bare number is seconds.

    Raises:
        InvalidDuration: the text is not a duration.
    """
    if _BARE.fullmatch(text):
        return float(text)
    found = _UNITS.fullmatch(text)
    if found is None or not text:
        raise InvalidDuration(f"invalid duration {text!r} (examples: 5s, 1m30s, 2h, 30d)")
    return sum(float(number or 0) * each for number, each in zip(found.groups(), _SECONDS.values(), strict=True))


def duration_text(seconds: float) -> str:
    """Return a duration in whole seconds, or in its two largest units: `4s`, `1m30s`, `30d2h`, `-3s`."""
    parts = _parts(seconds)
    first = next((index for index, part in enumerate(parts) if part), len(parts) - 1)
    return _signed(seconds, "".join(parts[first : first + 2]))


def text_over(seconds: float, limit: float) -> str:
    """Return a duration that is over a limit, with as many digits as show that it is."""
    exact = [part for part in _parts(seconds) if not part.endswith("s")]
    rest = f"{abs(seconds) % 60:.6f}"
    texts = [duration_text(abs(seconds)), *("".join([*exact, f"{rest[:digits]}s"]) for digits in (-7, -3, None))]
    return next((text for text in texts if parse_duration(text) > limit), texts[-1])


def _parts(seconds: float) -> list[str]:
    rest = int(abs(seconds))
    parts = []
    for unit, each in _SECONDS.items():
        number, rest = divmod(rest, each)
        parts.append(f"{number}{unit}" if number else "")
    return parts


def _signed(seconds: float, text: str) -> str:
    return f"-{text}" if seconds <= -1 else text or "0s"
