"""The result of scrapes, as input of `promtool test rules`."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

STEP = 5
"""Seconds between two values of a series in promtool's input, and between two looks at the alerts."""

JOB = "amp"
START = 1_700_000_000
BOUNDS = (1, 2, 5, 10, 30, 60, 300, 900, 3600)


@dataclass(frozen=True)
class Worker:
    """One worker in one scrape."""

    age: float | None = 0.5
    """The age of the heartbeat in seconds; negative if it lies in the future. None for a worker that stopped or failed.
    """

    version: str = "v1"
    registered: float = 0.0
    failure: str | None = None
    stuck: bool = False


@dataclass(frozen=True)
class Jobs:
    """The unfinished jobs in one scrape."""

    stranded: Mapping[str, int] = field(default_factory=dict)
    """Stranded jobs by worker."""

    in_error: int = 0
    not_picked_up_age: float | None = None
    last_fatal: float | None = None
    """Seconds since the first scrape."""


@dataclass(frozen=True)
class Scrape:
    """One scrape of one exporter."""

    workers: Mapping[str, Worker] = field(default_factory=dict)
    target: bool = True
    """False if Prometheus no longer has this target."""

    up: bool = True
    metadata_db_up: bool = True
    seconds: float = 0.03
    replay_lag: float | None = None
    """None if the metadata DB is a primary."""

    series_of_workers: bool = True
    """False with --collector.workers=none."""

    failed_recently: int = 0
    """The number of failed workers that failed within the last hour."""

    forgotten: int = 0
    jobs: Jobs | None = None
    """None if jobs are unknown."""

    replica_up: bool | None = None
    admin_up: bool | None = None
    """Whether a second exporter, which has no metrics of workers here, and an Admin API are up. None without such a
    target."""

    replica_metadata_db_up: bool | None = None
    """Whether the metadata DB answers the second exporter. None if that has no metrics at all."""

    admin_stale_after: int = 5
    """The exporter's own threshold is 5 s."""

    def samples(self) -> Iterator[tuple[str, float]]:
        for instance, job, up in (("replica", JOB, self.replica_up), ("admin", "admin-amp", self.admin_up)):
            if up is not None:
                yield f'up{{job="{job}",instance="{instance}"}}', float(up)
        if self.replica_metadata_db_up is not None:
            yield f'amp_metadata_db_up{{job="{JOB}",instance="replica"}}', float(self.replica_metadata_db_up)
        if self.admin_up:
            labels = 'job="admin-amp",instance="admin",threshold="stale"'
            yield f"amp_admin_threshold_seconds{{{labels}}}", self.admin_stale_after
        if not self.target:
            return
        yield _series("up"), float(self.up)
        yield _series("scrape_duration_seconds"), self.seconds
        if not self.up:
            return
        yield _series("amp_exporter_threshold_seconds", threshold="stale"), 5
        yield _series("amp_metadata_db_up"), float(self.metadata_db_up)
        if not self.metadata_db_up:
            return
        if self.replay_lag is not None:
            yield _series("amp_metadata_db_replay_lag_seconds"), self.replay_lag
        yield from self._fleet()
        if self.series_of_workers:
            yield from self._workers()
        if self.jobs is not None:
            yield from self._jobs(self.jobs)

    def _fleet(self) -> Iterator[tuple[str, float]]:
        ages = [abs(worker.age) for worker in self.workers.values() if worker.age is not None]
        failed = sum(worker.failure is not None for worker in self.workers.values())
        counts = {
            "active": sum(age <= 5 for age in ages) - sum(worker.stuck for worker in self.workers.values()),
            "stuck": sum(worker.stuck for worker in self.workers.values()),
            "stale": sum(5 < age <= 60 for age in ages),
            "lost": sum(age > 60 for age in ages),
            "failed": failed,
            "stopped": len(self.workers) - len(ages) - failed,
            "forgotten": self.forgotten,
        }
        for state, count in counts.items():
            yield _series("amp_workers", state=state), count
        yield _series("amp_workers_failed_recently"), self.failed_recently
        running = [
            worker.version for worker in self.workers.values() if worker.age is not None and abs(worker.age) <= 60
        ]
        for version in set(running):
            yield _series("amp_workers_by_version", version=version), running.count(version)
        for bound in BOUNDS:
            yield (
                _series("amp_fleet_heartbeat_age_seconds_bucket", le=f"{bound}.0"),
                sum(age <= bound for age in ages),
            )
        yield _series("amp_fleet_heartbeat_age_seconds_gcount"), len(ages)

    def _jobs(self, jobs: Jobs) -> Iterator[tuple[str, float]]:
        for status, count in {"running": 7, "error": jobs.in_error, "fatal": 0}.items():
            yield _series("amp_jobs", status=status), count
        yield _series("amp_jobs_stranded", worker_state="lost"), sum(jobs.stranded.values())
        yield _series("amp_jobs_stranded", worker_state="stopped"), 0
        for node_id, count in jobs.stranded.items():
            yield _series("amp_jobs_stranded_by_worker", node_id=node_id, worker_state="lost"), count
        if jobs.not_picked_up_age is not None:
            yield _series("amp_jobs_oldest_not_picked_up_age_seconds"), jobs.not_picked_up_age
        if jobs.last_fatal is not None:
            yield _series("amp_jobs_last_fatal_timestamp_seconds"), jobs.last_fatal

    def _workers(self) -> Iterator[tuple[str, float]]:
        for node_id, worker in self.workers.items():
            if worker.age is not None:
                yield _series("amp_worker_heartbeat_age_seconds", node_id=node_id), worker.age
            if worker.failure is not None:
                yield _series("amp_worker_failed", node_id=node_id, reason=worker.failure), 1
            if worker.stuck:
                yield _series("amp_worker_stuck", node_id=node_id), 1
            yield (
                _series("amp_worker_registered_timestamp_seconds", node_id=node_id),
                START + worker.registered,
            )


def input_series(
    scrape: Callable[[int], Scrape | None], seconds: int, interval: int = STEP, job: str = JOB
) -> list[dict[str, str]]:
    """Return promtool's `input_series` for the scrapes of a job at 0 s, `interval`, …; None is a missing scrape."""
    values: dict[str, list[str]] = {}
    alive: set[str] = set()
    for number, time in enumerate(range(0, seconds + 1, STEP)):
        made = scrape(time) if time % interval == 0 else None
        samples = {} if made is None else dict(made.samples())
        for series in samples:
            values.setdefault(series, ["_"] * number)
        for series, texts in values.items():
            if series in samples:
                texts.append(f"{samples[series]:.10g}")
            else:
                # A series that is absent from a scrape ends there. Without a scrape, it continues for five minutes.
                texts.append("stale" if made is not None and series in alive else "_")
        if made is not None:
            alive = set(samples)
    return [
        {"series": re.sub(f'job="(admin-)?{JOB}"', rf'job="\g<1>{job}"', series), "values": " ".join(texts)}
        for series, texts in values.items()
    ]


def _series(name: str, **labels: str) -> str:
    written = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f'{name}{{job="{JOB}",instance="exporter"{"," if written else ""}{written}}}'
