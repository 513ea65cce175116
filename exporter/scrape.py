"""One query of the metadata DB for all that scrape at the same moment, and never for longer than they wait."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from prometheus_client import CollectorRegistry, Counter, Histogram

from exporter.families import QUERY_DURATION, SCRAPE_ERRORS
from metadata_db import REASONS, Fleet, MetadataDbError


class Scraper:
    """Shares one running query among the scrapes that come while it runs. It keeps no answer."""

    def __init__(self, read: Callable[[float], Fleet], registry: CollectorRegistry) -> None:
        """read: asks the metadata DB, within so many seconds. registry: where the queries are counted and timed."""
        self._read = read
        self._lock = threading.Lock()
        self._flight: Future[Fleet] | None = None
        self._duration = Histogram(QUERY_DURATION.name, QUERY_DURATION.help, registry=registry)
        self._errors = Counter(SCRAPE_ERRORS.name, SCRAPE_ERRORS.help, SCRAPE_ERRORS.labels, registry=registry)
        for reason in REASONS:
            self._errors.labels(reason)

    def fleet(self, seconds: float) -> Fleet:
        """Return the fleet, within so many seconds.

        Raises:
            MetadataDbError: the metadata DB did not answer, or not in time.
        """
        try:
            return self._join(seconds).result(seconds)
        except FutureTimeoutError:
            raise MetadataDbError("timeout", f"the metadata DB did not answer within {seconds:.1f} s") from None

    def _join(self, seconds: float) -> Future[Fleet]:
        with self._lock:
            if self._flight is None:
                self._flight = Future()
                threading.Thread(target=self._fly, args=(self._flight, seconds), name="scrape", daemon=True).start()
            return self._flight

    def _fly(self, flight: Future[Fleet], seconds: float) -> None:
        started = time.perf_counter()
        try:
            fleet = self._read(seconds)
        except MetadataDbError as error:
            self._errors.labels(error.reason).inc()
            self._land(started)
            flight.set_exception(error)
        except BaseException as error:
            self._land(started)
            flight.set_exception(error)
            raise
        else:
            self._land(started)
            flight.set_result(fleet)

    def _land(self, started: float) -> None:
        self._duration.observe(time.perf_counter() - started)
        with self._lock:
            self._flight = None
