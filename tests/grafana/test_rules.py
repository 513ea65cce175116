"""The rules, tested by `promtool`: each alert fires exactly at the expected times."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.builder.alerts import ALERTS
from tests.grafana.cases import MUST_FIRE, MUST_NOT_FIRE, Case, Firing, fleet, killed, some_killed, stranded, with_jobs
from tests.grafana.intervals import AT_INTERVALS, INTERVALS, SECONDS, Intervals
from tests.grafana.scrapes import JOB, STEP, input_series
from tests.processes import ROOT, run, tool

RULES = ROOT / "grafana" / "rules" / "amp.yml"


FIRING = (
    'group by (job, alertname) (label_replace(ALERTS{alertname!="AmpWatchdog", alertstate="firing"}, '
    '"job", "$1", "job", "admin-(.*)"))'
)
"""All firing alerts. The alert about the Admin API counts as one of its fleet."""


def test_promtool_accepts_the_rules() -> None:
    checked = run(tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_has_a_case_that_fires() -> None:
    names = {alert.name for alert in ALERTS} - {"AmpWatchdog"}
    assert {name for case in MUST_FIRE for name in case.firing} == names


@pytest.mark.parametrize("case", AT_INTERVALS, ids=lambda case: case.name)
def test_what_fires_at_each_scrape_interval(case: Intervals, tmp_path: Path) -> None:
    """Each interval has a job of its own: one promtool takes a third of the time of four."""
    firing = {f"amp-{interval}s": case.firing.get(interval, {}) for interval in INTERVALS}
    series = [
        each
        for job, interval in zip(firing, INTERVALS, strict=True)
        for each in input_series(case.scrape, SECONDS, interval, job)
    ]
    _test_rules(tmp_path, series, _only_these_fire(firing, SECONDS))


def test_alerts_are_evaluated_every_5_s_at_any_scrape_interval() -> None:
    group, _ = yaml.safe_load(RULES.read_text())["groups"]
    assert group["interval"] == "5s"


def test_the_watchdog_always_fires(tmp_path: Path) -> None:
    expectation = {"expr": 'count(ALERTS{alertname="AmpWatchdog", alertstate="firing"})', "eval_time": "0s"}
    samples = {"exp_samples": [{"value": 1}]}
    _test_rules(tmp_path, [], {"promql_expr_test": [expectation | samples]})


@pytest.mark.parametrize("case", [*MUST_FIRE, *MUST_NOT_FIRE], ids=lambda case: case.name)
def test_what_fires(case: Case, tmp_path: Path) -> None:
    _test_rules(tmp_path, _series(case), _only_these_fire({JOB: case.firing}, case.seconds))


def _series(case: Case) -> list[dict[str, str]]:
    return input_series(case.scrape, case.seconds)


def _only_these_fire(firing: Mapping[str, Firing], seconds: int) -> dict[str, Any]:
    """Expect exactly these alerts of each job, at each evaluation."""
    expectations = [
        {
            "expr": FIRING,
            "eval_time": f"{time}s",
            "exp_samples": [
                {"labels": f'{{job="{job}", alertname="{name}"}}', "value": 1}
                for job, alerts in firing.items()
                for name, (first, last) in alerts.items()
                if first <= time <= last
            ],
        }
        for time in range(0, seconds + 1, STEP)
    ]
    return {"promql_expr_test": expectations}


@pytest.mark.parametrize("case", MUST_NOT_FIRE, ids=lambda case: case.name)
def test_nothing_fires(case: Case) -> None:
    assert not case.firing


def test_an_alert_has_all_its_texts(tmp_path: Path) -> None:
    case = Case("a worker is killed", killed)
    expectation = {
        "alertname": "AmpWorkerLost",
        "eval_time": "150s",
        "exp_alerts": [
            {
                "exp_labels": {"severity": "warning", "scope": "worker", "job": "amp", "node_id": "worker-01"},
                "exp_annotations": {
                    "summary": "Worker worker-01 of amp is lost",
                    "description": "The last heartbeat of worker worker-01 of amp is 1m 30s away from now. It is "
                    "unlikely to recover without intervention. The alert also resolves when the worker becomes "
                    "forgotten, after 24 hours.",
                    "dashboard_url": "http://localhost:3000/d/amp-worker?var-job=amp&var-node_id=worker-01",
                    "runbook_url": "http://localhost:3000/public/runbooks/index.html#AmpWorkerLost",
                },
            }
        ],
    }
    _test_rules(tmp_path, _series(case), {"alert_rule_test": [expectation]})


def test_stranded_jobs_are_counted_and_the_worker_with_the_most_is_named(tmp_path: Path) -> None:
    case = Case("jobs are stranded", with_jobs(stranded))
    expectation = {
        "alertname": "AmpJobsStranded",
        "eval_time": "140s",
        "exp_alerts": [
            {
                "exp_labels": {"severity": "critical", "scope": "jobs", "job": "amp"},
                "exp_annotations": {
                    "summary": "5 jobs of amp are stranded",
                    "description": "5 jobs of amp belong to workers that are lost, failed, stopped, forgotten or "
                    "missing. No other worker takes them over. The worker with the most is worker-91, with 3.",
                    "dashboard_url": "http://localhost:3000/d/amp-fleet?var-job=amp",
                    "runbook_url": "http://localhost:3000/public/runbooks/index.html#AmpJobsStranded",
                },
            }
        ],
    }
    _test_rules(tmp_path, _series(case), {"alert_rule_test": [expectation]})


def test_a_share_is_shown_in_percent(tmp_path: Path) -> None:
    case = Case("half the fleet is killed", some_killed(5))
    expectation = {
        "alertname": "AmpFleetShareLost",
        "eval_time": "100s",
        "exp_alerts": [
            {
                "exp_labels": {"severity": "critical", "scope": "fleet", "job": "amp"},
                "exp_annotations": {
                    "summary": "50% of the workers of amp are down",
                    "description": "50% of the workers of amp failed, or sent no heartbeat for 8 s, within the last "
                    "hour. Workers that stopped on purpose do not count.",
                    "dashboard_url": "http://localhost:3000/d/amp-fleet?var-job=amp",
                    "runbook_url": "http://localhost:3000/public/runbooks/index.html#AmpFleetShareLost",
                },
            }
        ],
    }
    _test_rules(tmp_path, _series(case), {"alert_rule_test": [expectation]})


def test_a_wrong_expectation_is_detected(tmp_path: Path) -> None:
    """The tests above can fail."""
    with pytest.raises(AssertionError, match="FAILED"):
        test_what_fires(Case("nothing happens", lambda _: fleet(), 60, {"AmpWorkerLost": (30, 40)}), tmp_path)


def _test_rules(directory: Path, series: list[dict[str, str]], expectations: dict[str, Any]) -> None:
    file = directory / "case.yml"
    test = {"interval": f"{STEP}s", "input_series": series} | expectations
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": f"{STEP}s", "tests": [test]}, width=10_000)
    )
    tested = run(tool("promtool"), "test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr
