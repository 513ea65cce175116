"""From a fault to the operator's webhook, in seconds: `.venv/bin/python -m bench.detection`.

Real workers, exporter, metadata DB, Prometheus (scrape and evaluation every 5 s) and Alertmanager, with the rules and
the configuration of grafana/. All deployments run at once, beside each other: three that go through every fault, and
one each for what takes half an hour. Takes 35 minutes. Needs `make test` to have been run once, for the programs.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from tests.alarm.deployment import Deployment, deployed
from tests.alarm.faults import (
    ALL_KILLED,
    BLACK_HOLED,
    EXPORTER_FROZEN,
    EXPORTER_KILLED,
    FROZEN,
    HALF_KILLED,
    KILLED,
    METADATA_DB_STOPPED,
    MIXED_VERSIONS,
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
    HALF_KILLED,
    ALL_KILLED,
    METADATA_DB_STOPPED,
    EXPORTER_KILLED,
    EXPORTER_FROZEN,
)
TEN_QUIET_MINUTES = Quiet("ten quiet minutes", lambda _: time.sleep(600))

_PATIENCE_SECONDS = 40 * 60
_LINGER_SECONDS = 15
"""After a notification, to see whether a second one follows."""

RESOLVED_TARGET_SECONDS = 20

_began = time.monotonic()


@dataclass(frozen=True)
class Detection:
    fault: Fault
    notified: float
    resolved: float
    """Seconds from the fault to the first notification, and from recovery to the first one that tells of it."""

    alerts: frozenset[str]
    """All that rang."""


@dataclass(frozen=True)
class Silence:
    quiet: Quiet
    alerts: frozenset[str]


def measure(deployment: Deployment, fault: Fault) -> Detection:
    deployment.await_rest()
    began = time.monotonic()
    fault.inject(deployment)
    rang = eventually(lambda: deployment.bell.first(fault.alert, True, began, fault.node_id), _PATIENCE_SECONDS)
    time.sleep(_LINGER_SECONDS)
    fault.recover(deployment)
    recovered = time.monotonic()
    over = eventually(lambda: deployment.bell.first(fault.alert, False, recovered, fault.node_id), _PATIENCE_SECONDS)
    made = Detection(
        fault, rang.at - began, over.at - recovered, frozenset(deployment.bell.alerts(began) - {fault.alert})
    )
    say(f"{fault.name}: notified after {made.notified:.1f} s, resolved after {made.resolved:.1f} s")
    return made


def listen(deployment: Deployment, quiet: Quiet) -> Silence:
    deployment.await_rest()
    began = time.monotonic()
    quiet.do(deployment)
    deployment.await_rest()
    made = Silence(quiet, frozenset(deployment.bell.alerts(began)))
    say(f"{quiet.name}: {', '.join(made.alerts) or 'nothing rang'}")
    return made


def say(text: str) -> None:
    sys.stderr.write(f"{time.monotonic() - _began:6.0f} s  {text}\n")


def go_through(faults: Sequence[Fault], quiet: Sequence[Quiet]) -> tuple[list[Detection], list[Silence]]:
    with _directories() as (directory, open_directory), deployed(directory, open_directory) as deployment:
        return [measure(deployment, fault) for fault in faults], [listen(deployment, each) for each in quiet]


@contextmanager
def _directories() -> Iterator[tuple[Path, Path]]:
    directory = Path(tempfile.mkdtemp(prefix="amp-detection-"))
    directory.chmod(0o755)
    yield directory, directory
    shutil.rmtree(directory)


def table(detections: Sequence[Detection], silences: Sequence[Silence]) -> Iterator[str]:
    by_fault: dict[str, list[Detection]] = defaultdict(list)
    for made in detections:
        by_fault[made.fault.name].append(made)
    yield "| fault | rings | notified after, s | target, s | resolved after, s | target, s | also rang | runs |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, runs in by_fault.items():
        fault = runs[0].fault
        target = fault.target_seconds
        also = sorted({alert for run in runs for alert in run.alerts})
        yield (
            f"| {name} | {fault.alert} | {_spread([run.notified for run in runs])} | {target or 'none'} "
            f"| {_spread([run.resolved for run in runs])} | {RESOLVED_TARGET_SECONDS if target else 'none'} "
            f"| {', '.join(also) or 'nothing'} | {len(runs)} |"
        )
    yield ""
    yield "| no fault | rang | runs |"
    yield "| --- | --- | --- |"
    for name in dict.fromkeys(silence.quiet.name for silence in silences):
        of = [silence for silence in silences if silence.quiet.name == name]
        yield f"| {name} | {', '.join(sorted({a for s in of for a in s.alerts})) or 'nothing'} | {len(of)} |"


def _spread(seconds: list[float]) -> str:
    """The median, and the range where there are several."""
    middle = f"{statistics.median(seconds):.1f}"
    return middle if len(seconds) == 1 else f"{middle} ({min(seconds):.1f} to {max(seconds):.1f})"


@click.command(help=__doc__)
@click.option("--runs", default=3, show_default=True, help="How often to go through the faults.")
@click.option("--long/--no-long", default=True, help="Whether to wait for what takes half an hour.")
def main(runs: int, long: bool) -> None:
    os.environ["PATH"] = f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}"
    lanes: list[Callable[[], tuple[list[Detection], list[Silence]]]] = [
        lambda: go_through(FAULTS, [*QUIET, TEN_QUIET_MINUTES])
    ] * runs
    if long:
        lanes += [lambda: go_through([RESTART_LOOP], []), lambda: go_through([MIXED_VERSIONS], [])]
    with ThreadPoolExecutor(len(lanes)) as threads:
        running = []
        for lane in lanes:
            running.append(threads.submit(lane))
            time.sleep(10)  # so that not all of them start their processes at once
        results = [lane.result() for lane in running]
    lines = table(
        [made for result in results for made in result[0]], [made for result in results for made in result[1]]
    )
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
