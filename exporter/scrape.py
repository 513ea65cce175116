"""One query of the metadata DB for all scrapes that arrive at the same time, each within its own timeout."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.registry import Collector

from amp_workers.exporter.families import QUERY_DURATION, SCRAPE_ERRORS
from amp_workers.exporter.fleet_families import DownCollector, FleetCollector
from amp_workers.exporter.worker_families import Texts, WorkerFamilies
from amp_workers.metadata_db import REASONS, Fleet, KeptDetails, MetadataDbError, SingleFlight

Read = Callable[[KeptDetails, float], tuple[Fleet, float | None]]
"""Reads the fleet, as `read_fleet` does, and the replay lag, within so many seconds; raises MetadataDbError."""

_MIN_SECONDS = 0.05
"""A query with less time than this is not started."""


@dataclass(frozen=True)
class Scrape:
    """The families that one query returned."""

    fleet: Collector
    workers: Texts


DOWN = Scrape(DownCollector(), {})


class Scraper:
    """Scrapes the metadata DB. Scrapes at the same time share one query, and no result is kept."""

    def __init__(self, read: Read, registry: CollectorRegistry) -> None:
        """registry: where the queries are counted and timed."""
        self._read = read
        self._families = WorkerFamilies()
        self._shared = SingleFlight[Scrape]()
        self._duration = Histogram(QUERY_DURATION.name, QUERY_DURATION.help, registry=registry)
        self._errors = Counter(SCRAPE_ERRORS.name, SCRAPE_ERRORS.help, SCRAPE_ERRORS.labels, registry=registry)
        for reason in REASONS:
            self._errors.labels(reason)

    def scrape(self, seconds: float) -> Scrape:
        """Return the families of the fleet, within so many seconds; DOWN where the metadata DB does not answer."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > _MIN_SECONDS:
            try:
                return self._shared.run(partial(self._query, left), left)
            except TimeoutError:
                break
            except MetadataDbError as error:
                # The query had the timeout of the scrape that started it. A scrape with a longer timeout retries.
                if error.reason != "timeout":
                    break
        return DOWN

    def _query(self, seconds: float) -> Scrape:
        try:
            with self._duration.time():
                fleet, replay_lag = self._read(self._families, seconds)
        except MetadataDbError as error:
            self._errors.labels(error.reason).inc()
            raise
        texts, versions = self._families.write(fleet)
        return Scrape(FleetCollector(fleet, versions, replay_lag), texts)
