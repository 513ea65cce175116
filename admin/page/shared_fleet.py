"""One read of the fleet for all browsers, and what is left of the last one while the metadata DB is unavailable."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from amp_workers.metadata_db import (
    AGE_BOUNDS,
    EXPECTED,
    LABEL_LENGTH,
    RUNNING,
    STATES,
    Listing,
    MetadataDbError,
    SingleFlight,
    Worker,
)

REFRESH_SECONDS = 5.0
"""However many browsers are open, the metadata DB is read once in this interval."""

_RECENT_SECONDS = 2 * REFRESH_SECONDS
"""A fleet, or an outage, that was read so recently is shown while a read is slow."""

_PATIENCE_SECONDS = 0.25
"""After so long without an answer, a request shows what is known. Its thread is needed for other requests."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The last successful read. The monotonic clock of this process measures how old it is."""

    listing: Listing
    by_node_id: Mapping[str, Worker]
    read: float
    """When the read began, by the monotonic clock: the workers are never shown as younger than they are."""

    states: Mapping[str, int]
    """Every state, the worst first, and how many workers are in it."""

    versions: Mapping[str, int]
    """Of the workers that run, the most frequent first. A version is cut to LABEL_LENGTH characters."""

    ages: Sequence[int]
    """How many heartbeats are at most as far from now as each of AGE_BOUNDS, and further than the bound before it. The
    last number is that of the heartbeats further away than all bounds."""

    @property
    def age(self) -> float:
        return time.monotonic() - self.read


@dataclass(frozen=True, slots=True)
class Outage:
    """The metadata DB does not answer, or not in time."""

    message: str
    began: float
    """When the first failed read began, by the monotonic clock."""

    ended: float
    """When the last one ended. What has been since then is unknown: nobody may have opened the page."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def is_recent(self) -> bool:
        return time.monotonic() - self.ended < _RECENT_SECONDS


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of the fleet."""

    fleet: Fleet | None
    """None before the first successful read."""

    outage: Outage | None


class SharedFleet:
    """The latest reading, for requests of any thread."""

    def __init__(self, read: Callable[[], Listing]) -> None:
        """read: raises MetadataDbError where the metadata DB is unavailable."""
        self._read = read
        self._flight = SingleFlight[Reading](max_age_seconds=REFRESH_SECONDS)
        self._last = Reading(None, None)

    def latest(self) -> Reading:
        """Return a reading that began at most REFRESH_SECONDS ago, or the one before while a read is slow."""
        last = self._last
        is_fresh = last.fleet is not None and last.fleet.age < _RECENT_SECONDS
        is_useful = is_fresh if last.outage is None else last.outage.is_recent
        try:
            return self._flight.run(self._attempt, _PATIENCE_SECONDS if is_useful else None)
        except TimeoutError:
            return last

    def _attempt(self) -> Reading:
        began, last = time.monotonic(), self._last
        outage = last.outage if last.outage is not None and last.outage.is_recent else None
        try:
            listing = self._read()
        except MetadataDbError as error:
            self._last = Reading(last.fleet, Outage(str(error), outage.began if outage else began, time.monotonic()))
        else:
            self._last = Reading(_fleet(listing, began), None)
        return self._last


def _fleet(listing: Listing, read: float) -> Fleet:
    workers = listing.workers
    states = Counter(worker["state"] for worker in workers)
    versions = Counter(worker["info"]["version"][:LABEL_LENGTH] for worker in workers if worker["state"] in RUNNING)
    ages = [0] * (len(AGE_BOUNDS) + 1)
    for worker in workers:
        if worker["state"] in EXPECTED:
            ages[bisect_left(AGE_BOUNDS, abs(worker["heartbeat_age_seconds"]))] += 1
    return Fleet(
        listing=listing,
        by_node_id={worker["node_id"]: worker for worker in workers},
        read=read,
        states={state.value: states[state] for state in STATES},
        versions=dict(sorted(versions.items(), key=lambda each: (-each[1], each[0]))),
        ages=ages,
    )
