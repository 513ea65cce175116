"""Threshold ranges as Nagios plugins have them: https://nagios-plugins.org/doc/guidelines.html."""

import re
from typing import NamedTuple

from amp_workers.errors import AmpError

_NUMBER = r"-?\d{1,9}(?:\.\d{1,6})?"
_RANGE = re.compile(rf"(@)?(?:(~|{_NUMBER})?:)?({_NUMBER})?", re.ASCII)


class InvalidRange(AmpError, ValueError):
    """The text is not a range. The message has examples."""


class Range(NamedTuple):
    """`10` is 0 to 10, `10:` is 10 and more, `~:10` is 10 and less, `10:20` both; after `@`, the inside violates."""

    text: str
    start: float
    end: float
    inside: bool

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Raises InvalidRange."""
        found = _RANGE.fullmatch(text)
        if found is None or not (found[2] or found[3]):
            raise InvalidRange(f"invalid range {text!r} (examples: 0, 5:, ~:3, 2:10, @2:10)")
        start = float("-inf") if found[2] == "~" else float(found[2] or 0)
        end = float("inf") if found[3] is None else float(found[3])
        if start > end:
            raise InvalidRange(f"invalid range {text!r}: it begins above its end")
        return cls(text, start, end, found[1] is not None)

    def is_violated_by(self, value: float) -> bool:
        return (self.start <= value <= self.end) == self.inside

    def __str__(self) -> str:
        return self.text
