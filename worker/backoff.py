"""Exponential backoff with jitter."""

import random


class Backoff:
    """Waits that double up to a limit, each cut by a random part: processes do not retry at the same time."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._wait = first

    def reset(self) -> None:
        """Start again from the first wait."""
        self._wait = self._first

    def next(self) -> float:
        """Return how many seconds to wait: between a third of a wait and all of it."""
        wait, self._wait = self._wait, min(self._wait * 2, self._longest)
        return wait * random.uniform(1 / 3, 1.0)  # noqa: S311 - to spread load, not to keep a secret
