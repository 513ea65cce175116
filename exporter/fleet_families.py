"""The fleet families of one scrape: always there, and no more of them for a larger fleet."""

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter.families import (
    AGE_BOUNDS,
    FLEET_HEARTBEAT_AGE,
    METADATA_DB_UP,
    WORKERS,
    WORKERS_BY_VERSION,
    Family,
)
from metadata_db import Cohort, Fleet, State

_RUNNING = (State.ACTIVE, State.STALE)
_EXPECTED = (State.ACTIVE, State.STALE, State.LOST)


class FleetCollector(Collector):
    """Makes the families of one fleet; of None, where the metadata DB did not answer, the one that says so."""

    def __init__(self, fleet: Fleet | None) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        up = _gauge(METADATA_DB_UP)
        up.add_metric([], 0 if self._fleet is None else 1)
        yield up
        if self._fleet is not None:
            yield self._workers(self._fleet.cohorts)
            yield self._by_version(self._fleet.cohorts)
            yield self._heartbeat_age(self._fleet.cohorts)

    @staticmethod
    def _workers(cohorts: Sequence[Cohort]) -> Metric:
        family = _gauge(WORKERS)
        for state in State:
            family.add_metric([state], sum(cohort.workers for cohort in cohorts if cohort.state == state))
        return family

    @staticmethod
    def _by_version(cohorts: Sequence[Cohort]) -> Metric:
        counts: Counter[str] = Counter()
        for cohort in cohorts:
            if cohort.state in _RUNNING:
                counts[cohort.version] += cohort.workers
        family = _gauge(WORKERS_BY_VERSION)
        for version in sorted(counts):
            family.add_metric([version], counts[version])
        return family

    @staticmethod
    def _heartbeat_age(cohorts: Sequence[Cohort]) -> Metric:
        expected = [cohort for cohort in cohorts if cohort.state in _EXPECTED]
        buckets = [
            (f"{bound:g}.0", sum(cohort.workers for cohort in expected if cohort.bucket <= index))
            for index, bound in enumerate(AGE_BOUNDS)
        ]
        buckets.append(("+Inf", sum(cohort.workers for cohort in expected)))
        return GaugeHistogramMetricFamily(
            FLEET_HEARTBEAT_AGE.name,
            FLEET_HEARTBEAT_AGE.help,
            buckets=[(bound, float(count)) for bound, count in buckets],
            gsum_value=sum(cohort.age_seconds for cohort in expected),
        )


def _gauge(family: Family) -> GaugeMetricFamily:
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)
