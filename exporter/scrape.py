"""One query of the metadata DB for all that scrape at the same moment, and never for longer than they wait."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.registry import Collector

from amp_workers.exporter.families import QUERY_DURATION, SCRAPE_ERRORS
from amp_workers.exporter.fleet_families import DownCollector, FleetCollector
from amp_workers.exporter.worker_families import Texts, WorkerFamilies
from amp_workers.metadata_db import REASONS, Fleet, Key, Learn, MetadataDbError

Known = Callable[[], Mapping[Key, str]]
"""Returns the fingerprints whose details are known."""

Read = Callable[[Known, Learn, float], tuple[Fleet, float | None]]
"""Reads the fleet, as `read_fleet` does, and the replay lag, within so many seconds; raises MetadataDbError."""

_SHORTEST_SECONDS = 0.05
"""Less than this is no time to ask anything."""


@dataclass(frozen=True)
class Scrape:
    """What one query told."""

    fleet: Collector
    workers: Texts


DOWN = Scrape(DownCollector(), {})


class Scraper:
    """Shares one running query among the scrapes that come while it runs. It keeps no answer."""

    def __init__(self, read: Read, registry: CollectorRegistry) -> None:
        """registry: where the queries are counted and timed."""
        self._read = read
        self._families = WorkerFamilies()
        self._lock = threading.Lock()
        self._flight: Future[Scrape] | None = None
        self._duration = Histogram(QUERY_DURATION.name, QUERY_DURATION.help, registry=registry)
        self._errors = Counter(SCRAPE_ERRORS.name, SCRAPE_ERRORS.help, SCRAPE_ERRORS.labels, registry=registry)
        for reason in REASONS:
            self._errors.labels(reason)

    def scrape(self, seconds: float) -> Scrape:
        """Return what the metadata DB tells within so many seconds; DOWN where it does not."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > _SHORTEST_SECONDS:
            try:
                return self._join(left).result(left)
            except FutureTimeoutError:
                break
            except MetadataDbError as error:
                # The query had only as much time as the scrape that began it. Who has more tries again.
                if error.reason != "timeout":
                    break
        return DOWN

    def _join(self, seconds: float) -> Future[Scrape]:
        with self._lock:
            if self._flight is None:
                self._flight = Future()
                fly = threading.Thread(target=self._fly, args=(self._flight, seconds), name="scrape", daemon=True)
                fly.start()
            return self._flight

    def _fly(self, flight: Future[Scrape], seconds: float) -> None:
        try:
            scrape = self._query(seconds)
        except BaseException as error:
            self._land()
            flight.set_exception(error)
            if not isinstance(error, MetadataDbError):
                raise
        else:
            self._land()
            flight.set_result(scrape)

    def _query(self, seconds: float) -> Scrape:
        try:
            with self._duration.time():
                fleet, replay_lag = self._read(self._families.known, self._families.learn, seconds)
        except MetadataDbError as error:
            self._errors.labels(error.reason).inc()
            raise
        texts, versions = self._families.write(fleet)
        return Scrape(FleetCollector(fleet, versions, replay_lag), texts)

    def _land(self) -> None:
        with self._lock:
            self._flight = None
