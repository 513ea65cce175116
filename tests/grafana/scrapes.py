"""What Prometheus would have scraped, every 5 s, as input of `promtool test rules`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

STEP = 5
"""Seconds from scrape to scrape, and from evaluation to evaluation."""

START = 1_700_000_000
BOUNDS = (1, 2, 5, 10, 30, 60, 300, 900, 3600)


@dataclass(frozen=True)
class Worker:
    """One worker in one scrape."""

    age: float | None = 0.5
    """Of its heartbeat, in seconds; negative from the future. None for one that stopped on purpose."""

    version: str = "v1"
    registered: float = 0.0


@dataclass(frozen=True)
class Scrape:
    """One scrape of one exporter."""

    workers: Mapping[str, Worker] = field(default_factory=dict)
    target: bool = True
    """False when Prometheus has no such target any more."""

    up: bool = True
    metadata_db_up: bool = True
    seconds: float = 0.03
    replay_lag: float | None = None
    """None where the metadata DB is a primary."""

    series_of_workers: bool = True
    """False as with --collector.workers=none."""

    def samples(self) -> Iterator[tuple[str, float]]:
        if not self.target:
            return
        yield 'up{job="amp",instance="exporter"}', float(self.up)
        yield 'scrape_duration_seconds{job="amp",instance="exporter"}', self.seconds
        if not self.up:
            return
        yield _series("amp_metadata_db_up"), float(self.metadata_db_up)
        if not self.metadata_db_up:
            return
        if self.replay_lag is not None:
            yield _series("amp_metadata_db_replay_lag_seconds"), self.replay_lag
        yield from self._fleet()
        if self.series_of_workers:
            yield from self._workers()

    def _fleet(self) -> Iterator[tuple[str, float]]:
        ages = [abs(worker.age) for worker in self.workers.values() if worker.age is not None]
        counts = {
            "active": sum(age <= 5 for age in ages),
            "stale": sum(5 < age <= 60 for age in ages),
            "lost": sum(age > 60 for age in ages),
            "stopped": len(self.workers) - len(ages),
            "forgotten": 0,
        }
        for state, count in counts.items():
            yield _series("amp_workers", state=state), count
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

    def _workers(self) -> Iterator[tuple[str, float]]:
        for node_id, worker in self.workers.items():
            if worker.age is not None:
                yield _series("amp_worker_heartbeat_age_seconds", node_id=node_id), worker.age
            yield (
                _series("amp_worker_registered_timestamp_seconds", node_id=node_id),
                START + worker.registered,
            )


def input_series(scrape: Callable[[int], Scrape | None], seconds: int) -> list[dict[str, str]]:
    """Return promtool's `input_series` of the scrapes at 0, 5, 10 … s; None is one that Prometheus did not make."""
    values: dict[str, list[str]] = {}
    alive: set[str] = set()
    for number, time in enumerate(range(0, seconds + 1, STEP)):
        made = scrape(time)
        samples = {} if made is None else dict(made.samples())
        for series in samples:
            values.setdefault(series, ["_"] * number)
        for series, texts in values.items():
            if series in samples:
                texts.append(f"{samples[series]:.10g}")
            else:
                # What a scrape no longer has ends there; what was not scraped lives on for five minutes.
                texts.append("stale" if made is not None and series in alive else "_")
        if made is not None:
            alive = set(samples)
    return [{"series": series, "values": " ".join(texts)} for series, texts in values.items()]


def _series(name: str, **labels: str) -> str:
    written = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f'{name}{{job="amp",instance="exporter"{"," if written else ""}{written}}}'
