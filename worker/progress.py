"""What a worker reports of its work, until the heartbeat writes it into the worker's row."""

import time

from amp_workers.metadata_db import PROGRESS_LENGTH, Progress

LONGEST_WATCHDOG_SECONDS = 1_000_000.0
"""The longest promise that the metadata DB's readers understand."""


class ProgressReports:
    """The progress of one worker, reported from any thread at any rate.

    Nothing here waits for a lock or for the database, so that a signal handler and a forked process may report as well:
    each attribute is set on its own, and what a heartbeat misses because of that is pending for the next one.

    watchdog_seconds: the promise to report at least every so many seconds; None without one.
    """

    def __init__(self, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._promise: float | None = None
        self._text: str | None = None
        self._reported: float | None = None
        self._is_triggered = False
        self._recorded = Progress()

    @property
    def current(self) -> Progress:
        """The progress as it is now."""
        return Progress(self._text, self._reported, self._promise, self._is_triggered)

    @property
    def pending(self) -> Progress | None:
        """The progress as it is now; None where the row has it already."""
        current = self.current
        return None if current == self._recorded else current

    def record(self, progress: Progress) -> None:
        """Remember what the row has."""
        self._recorded = progress

    def begin(self) -> None:
        """Give the promise, if there is one to give: the work begins."""
        if self.watchdog_seconds is not None:
            self._promise, self._reported = self.watchdog_seconds, time.monotonic()

    def end_promise(self) -> None:
        """Take the promise back: the work is about to end."""
        self._promise = None

    def advance(self) -> None:
        """Report progress, and that the work goes on after `trigger`."""
        self._is_triggered, self._reported = False, time.monotonic()

    def start(self) -> None:
        """Report that the work is ready to begin."""
        self._reported = time.monotonic()

    def describe(self, text: str) -> None:
        """Set the text; it counts as progress only where there is no promise."""
        self._text = str(text)[:PROGRESS_LENGTH] or None
        if self._promise is None:
            self._reported = time.monotonic()

    def trigger(self) -> None:
        """Report that the work is stuck."""
        self._is_triggered = True


class StuckWatch:
    """Watches whether the promise is kept. Time in which this process does not look counts as one look at most: while
    a machine or a container is frozen, what it watches is frozen as well."""

    LONGEST_LOOK_SECONDS = 1.0

    def __init__(self, reports: ProgressReports) -> None:
        self._reports = reports
        self._before: float | None = None
        self._looked_at = 0.0
        self._silent = 0.0

    def look(self, now: float) -> bool:
        """Return whether the worker is stuck at a moment of the monotonic clock."""
        progress = self._reports.current
        if progress.reported != self._before:
            self._before, self._silent = progress.reported, 0.0
        else:
            self._silent += min(now - self._looked_at, self.LONGEST_LOOK_SECONDS)
        self._looked_at = now
        is_broken = progress.watchdog_seconds is not None and self._silent > progress.watchdog_seconds
        return progress.is_triggered or is_broken
