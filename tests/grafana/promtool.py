"""`promtool test rules`, with many fleets beside each other in one run."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from grafana.builder.durations import promql
from grafana.builder.thresholds import EVALUATION_INTERVAL
from tests.grafana.cases import Firing
from tests.grafana.scrapes import STEP, Scrape, input_series
from tests.processes import ROOT, run, tool

RULES = ROOT / "grafana" / "rules" / "amp.yml"

Failures = Mapping[str, Sequence[str]]
"""What promtool found wrong, by the name of the lane."""

_BATCHES = {300: EVALUATION_INTERVAL, 900: 2 * EVALUATION_INTERVAL, 4000: 2 * EVALUATION_INTERVAL}
"""Lanes of similar length run together, until the end of the longest one; and the time between two evaluations. In the
long ones, every second evaluation is left out: promtool takes as long for each as for a query of all series.
"""


@dataclass(frozen=True)
class Lane:
    """What happens to one fleet, and the only alerts that fire."""

    name: str
    scrape: Callable[[int], Scrape | None]
    seconds: int
    firing: Firing
    interval: int = STEP
    """Seconds between two scrapes."""


def batches(lanes: Iterable[Lane]) -> Iterator[list[Lane]]:
    """Return the lanes that one run of promtool checks. A lane without any scrape target has a run of its own: its
    alert fires where Prometheus knows no exporter at all."""
    together: dict[int, list[Lane]] = {end: [] for end in _BATCHES}
    for lane in lanes:
        first = lane.scrape(0)
        if first is not None and not first.target:
            yield [lane]
        else:
            together[next(end for end in together if lane.seconds <= end)].append(lane)
    yield from together.values()


def check(directory: Path, lanes: Sequence[Lane]) -> dict[str, list[str]]:
    """Return what promtool found wrong with each lane: an alert that fires too early, too late or without reason."""
    jobs = {"amp" if len(lanes) == 1 else f"amp-{number}": lane for number, lane in enumerate(lanes)}
    series = [
        each for job, lane in jobs.items() for each in input_series(lane.scrape, lane.seconds, lane.interval, job)
    ]
    expectations = [each for job, lane in jobs.items() for each in _only_these_fire(job, lane)]
    evaluated = next(each for end, each in _BATCHES.items() if max(lane.seconds for lane in lanes) <= end)
    output = run_promtool(directory, series, {"promql_expr_test": expectations}, evaluated)
    failures: dict[str, list[str]] = {lane.name: [] for lane in lanes}
    for failure in re.split(r"^(?= *expr:)", output, flags=re.MULTILINE)[1:]:
        for job in re.findall(r"\(admin-\)\?(amp[-\d]*)", failure)[:1]:
            failures[jobs[job].name].append(failure)
    assert not output or any(failures.values()), output
    return failures


def _only_these_fire(job: str, lane: Lane) -> Iterator[dict[str, Any]]:
    """Expect exactly these alerts of a job, every STEP seconds. Those about its Admin API count as its own."""
    firing = f'group by (alertname) (ALERTS{{job=~"(admin-)?{job}", alertname!="AmpWatchdog", alertstate="firing"}})'
    for time in range(0, lane.seconds + 1, STEP):
        names = [name for name, (first, last) in lane.firing.items() if first <= time <= last]
        samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names]
        yield {"expr": firing, "eval_time": f"{time}s", "exp_samples": samples}


def run_promtool(
    directory: Path,
    series: Sequence[Mapping[str, str]],
    expectations: Mapping[str, Any],
    evaluated: timedelta = EVALUATION_INTERVAL,
) -> str:
    """Return what promtool found wrong; empty where everything is as expected."""
    file = directory / "case.yml"
    test = {"interval": f"{STEP}s", "input_series": series, **expectations}
    tests = {"rule_files": [str(RULES)], "evaluation_interval": promql(evaluated), "tests": [test]}
    file.write_text(yaml.dump(tests, Dumper=yaml.CSafeDumper, width=10_000))
    # By default, Go's garbage collections take a seventh of promtool's time.
    tested = run(tool("promtool"), "test", "rules", str(file), env={"GOGC": "400"}, seconds=600)
    output = tested.stdout + tested.stderr
    assert tested.returncode == 0 or "FAILED" in output, output
    return "" if tested.returncode == 0 else output
