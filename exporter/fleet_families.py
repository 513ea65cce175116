"""The fleet families of one scrape: always there, and no more of them for a larger fleet."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from amp_workers.exporter.families import (
    AGE_BOUNDS,
    FLEET_HEARTBEAT_AGE,
    METADATA_DB_UP,
    WORKERS,
    WORKERS_BY_VERSION,
    Family,
)
from amp_workers.metadata_db import Group, State

_EXPECTED = (State.ACTIVE, State.STALE, State.LOST)


class FleetCollector(Collector):
    """Makes the families of one fleet."""

    def __init__(self, groups: Sequence[Group], versions: Mapping[str, int]) -> None:
        """versions: how many running workers there are of each."""
        self._groups = groups
        self._versions = versions

    def collect(self) -> Iterator[Metric]:
        yield _gauge(METADATA_DB_UP, {(): 1})
        counts = Counter[str]()
        for group in self._groups:
            counts[group.state] += group.workers
        yield _gauge(WORKERS, {(state,): counts[state] for state in State})
        yield _gauge(WORKERS_BY_VERSION, {(version,): count for version, count in sorted(self._versions.items())})
        yield self._heartbeat_age()

    def _heartbeat_age(self) -> Metric:
        expected = [group for group in self._groups if group.state in _EXPECTED]
        within = [sum(counts) for counts in zip(*(group.within for group in expected), strict=True)]
        counts = within or [0] * len(AGE_BOUNDS)
        buckets = [(f"{bound:g}.0", float(count)) for bound, count in zip(AGE_BOUNDS, counts, strict=True)]
        return GaugeHistogramMetricFamily(
            FLEET_HEARTBEAT_AGE.name,
            FLEET_HEARTBEAT_AGE.help,
            buckets=[*buckets, ("+Inf", float(sum(group.workers for group in expected)))],
            gsum_value=sum(group.age_seconds for group in expected),
        )


class DownCollector(Collector):
    """Says that the metadata DB did not answer, and nothing else: nothing is known."""

    def collect(self) -> Iterator[Metric]:
        yield _gauge(METADATA_DB_UP, {(): 0})


def _gauge(family: Family, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    made = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made
