"""From a fault to the operator's webhook, in seconds: `.venv/bin/python -m bench.detection`.

Real workers and programs, exporter, metadata DB, Prometheus and Alertmanager, with the rules and the configuration of
grafana/. All deployments run at the same time: some with a scrape interval of 5 s that go through every fault, one with
15 s, one with 60 s, and one each for what takes half an hour. Takes 45 minutes. Needs `make test` to have been run
once, for the programs.
"""

import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click

from tests.alarm.deployment import INTERVAL, Deployment, deployed
from tests.alarm.faults import (
    ALL_KILLED,
    BLACK_HOLED,
    EXITS_WITH_1,
    EXPORTER_FROZEN,
    EXPORTER_KILLED,
    FROZEN,
    HALF_KILLED,
    HANGS,
    JOBS_STRANDED,
    KILLED,
    KILLED_AT_60_S,
    METADATA_DB_STOPPED,
    MIXED_VERSIONS,
    PROGRAM_KILLED,
    PROGRAMS_QUIET,
    QUIET,
    RESTART_LOOP,
    Fault,
    Quiet,
)
from tests.processes import ROOT, eventually

FAULTS = (
    KILLED,
    FROZEN,
    BLACK_HOLED,
    EXITS_WITH_1,
    PROGRAM_KILLED,
    HANGS,
    HALF_KILLED,
    ALL_KILLED,
    METADATA_DB_STOPPED,
    EXPORTER_KILLED,
    EXPORTER_FROZEN,
    JOBS_STRANDED,
)
AT_15_S = (KILLED, EXITS_WITH_1, HANGS, HALF_KILLED, METADATA_DB_STOPPED, JOBS_STRANDED)
AT_60_S = (KILLED_AT_60_S, *AT_15_S[1:])
TEN_QUIET_MINUTES = Quiet("ten quiet minutes", lambda _: time.sleep(600))

_PATIENCE_SECONDS = 40 * 60
_LINGER_SECONDS = 15
"""After a notification, to see whether a second one follows."""

RESOLVED_TARGET_SECONDS = 20

_starting = threading.Lock()
"""Of 18 processes that all start at once, on two cores, some would be late already."""

_began = time.monotonic()


@dataclass(frozen=True)
class Detection:
    fault: Fault
    interval: int
    notified: float
    resolved: float
    """Seconds from the fault to the first notification, and from recovery to the first one that the alert is
    resolved."""

    others: frozenset[str]
    """The other alerts that fired."""


@dataclass(frozen=True)
class Silence:
    quiet: Quiet
    interval: int
    alerts: frozenset[str]


def measure(deployment: Deployment, fault: Fault) -> Detection:
    deployment.await_rest()
    began = time.monotonic()
    fault.inject(deployment)
    fired = eventually(lambda: deployment.webhook.first(fault.alert, True, began, fault.node_id), _PATIENCE_SECONDS)
    time.sleep(_LINGER_SECONDS)
    fault.recover(deployment)
    recovered = time.monotonic()
    over = eventually(lambda: deployment.webhook.first(fault.alert, False, recovered, fault.node_id), _PATIENCE_SECONDS)
    others = frozenset(deployment.webhook.alerts(began) - {fault.alert})
    made = Detection(fault, deployment.interval, fired.at - began, over.at - recovered, others)
    say(
        f"{fault.name}, scraped every {made.interval} s: notified after {made.notified:.1f} s, "
        f"resolved after {made.resolved:.1f} s; other alerts: {', '.join(sorted(others)) or 'none'}"
    )
    return made


def listen(deployment: Deployment, quiet: Quiet) -> Silence:
    deployment.await_rest()
    began = time.monotonic()
    quiet.do(deployment)
    deployment.await_rest()
    made = Silence(quiet, deployment.interval, frozenset(deployment.webhook.alerts(began)))
    say(f"{quiet.name}, scraped every {made.interval} s: {', '.join(sorted(made.alerts)) or 'no alert fired'}")
    return made


def say(text: str) -> None:
    sys.stderr.write(f"{time.monotonic() - _began:6.0f} s  {text}\n")


@dataclass(frozen=True)
class Lane:
    """One deployment, and what happens to it, one after the other."""

    faults: Sequence[Fault]
    quiet: Sequence[Quiet] = ()
    interval: int = INTERVAL


@dataclass
class Results:
    """What all lanes measured. A lane that a machine was too slow for keeps what it measured before."""

    detections: list[Detection] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    failed_lanes: int = 0

    def go_through(self, lane: Lane) -> None:
        try:
            with ExitStack() as running:
                with _starting:
                    places = running.enter_context(_directories())
                    deployment = running.enter_context(deployed(*places, lane.interval))
                    deployment.await_rest()
                for fault in lane.faults:
                    self.detections.append(measure(deployment, fault))
                for each in lane.quiet:
                    self.silences.append(listen(deployment, each))
        except AssertionError as error:
            self.failed_lanes += 1
            say(f"a deployment scraped every {lane.interval} s ends early: {error}")


@contextmanager
def _directories() -> Iterator[tuple[Path, Path]]:
    directory = Path(tempfile.mkdtemp(prefix="amp-detection-"))
    directory.chmod(0o755)
    yield directory, directory
    shutil.rmtree(directory)


def table(detections: Sequence[Detection], silences: Sequence[Silence]) -> Iterator[str]:
    for interval, of_interval in sorted(_grouped(detections, lambda made: made.interval).items()):
        yield f"Scraped every {interval} s:"
        yield ""
        yield "| fault | alert | notified after, s | target, s | resolved after, s | target, s | other alerts | runs |"
        yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
        for fault, runs in _grouped(of_interval, lambda made: made.fault).items():
            target = fault.target(interval)
            resolved_target = RESOLVED_TARGET_SECONDS + 2 * (interval - INTERVAL)
            yield (
                f"| {fault.name} | {fault.alert} | {_spread([run.notified for run in runs])} | {target or 'none'} "
                f"| {_spread([run.resolved for run in runs])} | {resolved_target if target else 'none'} "
                f"| {_names(run.others for run in runs)} | {len(runs)} |"
            )
        yield ""
    yield "| no fault | alerts | scraped every, s | runs |"
    yield "| --- | --- | --- | --- |"
    by_interval = sorted(silences, key=lambda made: made.interval)
    for (quiet, interval), of in _grouped(by_interval, lambda made: (made.quiet, made.interval)).items():
        yield f"| {quiet.name} | {_names(silence.alerts for silence in of)} | {interval} | {len(of)} |"


_Made = TypeVar("_Made")
_Key = TypeVar("_Key", bound=Hashable)


def _grouped(made: Sequence[_Made], key: Callable[[_Made], _Key]) -> dict[_Key, list[_Made]]:
    return {each: [one for one in made if key(one) == each] for each in dict.fromkeys(key(one) for one in made)}


def _names(alerts: Iterable[frozenset[str]]) -> str:
    return ", ".join(sorted(frozenset().union(*alerts))) or "none"


def _spread(seconds: list[float]) -> str:
    """The median, and the range where there are several."""
    middle = f"{statistics.median(seconds):.1f}"
    return middle if len(seconds) == 1 else f"{middle} ({min(seconds):.1f} to {max(seconds):.1f})"


@click.command(help=__doc__)
@click.option("--runs", default=3, show_default=True, help="How often to go through the faults.")
@click.option("--long/--no-long", default=True, help="Whether to wait for what takes half an hour.")
def main(runs: int, long: bool) -> None:
    os.environ["PATH"] = f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}"
    lanes = [Lane(FAULTS, [*QUIET, *PROGRAMS_QUIET, TEN_QUIET_MINUTES])] * runs
    lanes += [Lane(AT_15_S, PROGRAMS_QUIET, 15), Lane(AT_60_S, PROGRAMS_QUIET, 60)]
    if long:
        lanes += [Lane([RESTART_LOOP]), Lane([MIXED_VERSIONS])]
    results = Results()
    with ThreadPoolExecutor(len(lanes)) as threads:
        list(threads.map(results.go_through, lanes))
    click.echo("\n".join(table(results.detections, results.silences)))
    sys.exit(1 if results.failed_lanes else 0)


if __name__ == "__main__":
    main()
