"""The fleet families of one scrape: always there, and no more of them for a larger fleet."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from amp_workers.exporter.families import (
    FLEET_HEARTBEAT_AGE,
    FLEET_OLDEST_HEARTBEAT_AGE,
    JOBS,
    JOBS_LAST_FATAL_TIMESTAMP,
    JOBS_OLDEST_NOT_PICKED_UP_AGE,
    JOBS_STRANDED,
    JOBS_STRANDED_BY_WORKER,
    METADATA_DB_REPLAY_LAG,
    METADATA_DB_UP,
    WORKERS,
    WORKERS_BY_VERSION,
    WORKERS_FAILED_RECENTLY,
    Family,
)
from amp_workers.metadata_db import AGE_BOUNDS, EXPECTED, Fleet, Jobs, State


class FleetCollector(Collector):
    """The fleet families of one scrape."""

    def __init__(self, fleet: Fleet, versions: Mapping[str, int], replay_lag: float | None) -> None:
        """versions: how many running workers there are of each. replay_lag: in seconds, None on a primary."""
        self._groups = fleet.groups
        self._jobs = fleet.jobs
        self._versions = versions
        self._replay_lag = replay_lag
        self._ages = list(_heartbeat_ages([group.ages for group in fleet.groups if group.state in EXPECTED]))

    def collect(self) -> Iterator[Metric]:
        yield _gauge(METADATA_DB_UP, {(): 1})
        yield _gauge(METADATA_DB_REPLAY_LAG, {} if self._replay_lag is None else {(): self._replay_lag})
        counts = Counter[str]()
        for group in self._groups:
            counts[group.state] += group.workers
        yield _gauge(WORKERS, {(state,): counts[state] for state in State})
        yield _gauge(WORKERS_FAILED_RECENTLY, {(): sum(group.failed_recently for group in self._groups)})
        yield _gauge(WORKERS_BY_VERSION, {(version,): count for version, count in sorted(self._versions.items())})
        yield from self._ages
        if self._jobs is not None:
            yield from _jobs(self._jobs)


def _heartbeat_ages(ages: Sequence[Sequence[float]]) -> Iterator[Metric]:
    distances = list(map(_distances, ages))
    longest = list(map(max, distances))
    counts = [0] * len(AGE_BOUNDS)
    for each, most in zip(distances, longest, strict=True):
        # Most groups have all their heartbeats within the first bound, and need no order.
        ordered = each if most <= AGE_BOUNDS[0] else sorted(each)
        counts = [
            count + (len(each) if most <= bound else bisect_right(ordered, bound))
            for count, bound in zip(counts, AGE_BOUNDS, strict=True)
        ]
    buckets = [(f"{bound:g}.0", float(count)) for bound, count in zip(AGE_BOUNDS, counts, strict=True)]
    yield GaugeHistogramMetricFamily(
        FLEET_HEARTBEAT_AGE.name,
        FLEET_HEARTBEAT_AGE.help,
        buckets=[*buckets, ("+Inf", float(sum(map(len, ages))))],
        gsum_value=sum(map(sum, distances)),
    )
    yield _gauge(FLEET_OLDEST_HEARTBEAT_AGE, {(): max(longest)} if longest else {})


def _distances(ages: Sequence[float]) -> Sequence[float]:
    """Return the distances from now, so that heartbeats from the past and the future do not cancel each other out."""
    return ages if min(ages) >= 0 else list(map(abs, ages))


def _jobs(jobs: Jobs) -> Iterator[Metric]:
    yield _gauge(JOBS, {(status,): count for status, count in jobs.by_status.items()})
    yield _gauge(JOBS_STRANDED, {(worker_state,): count for worker_state, count in jobs.stranded.items()})
    by_worker: dict[tuple[str, ...], float] = {
        (each.node_id, each.worker_state): each.jobs for each in jobs.stranded_by_worker
    }
    yield _gauge(JOBS_STRANDED_BY_WORKER, by_worker)
    for family, value in (
        (JOBS_OLDEST_NOT_PICKED_UP_AGE, jobs.oldest_not_picked_up_age_seconds),
        (JOBS_LAST_FATAL_TIMESTAMP, jobs.last_fatal_timestamp),
    ):
        yield _gauge(family, {} if value is None else {(): value})


class DownCollector(Collector):
    """Makes `amp_metadata_db_up 0` alone: the other families are omitted, because stale values would be misleading."""

    def collect(self) -> Iterator[Metric]:
        yield _gauge(METADATA_DB_UP, {(): 0})


def _gauge(family: Family, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    made = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made
