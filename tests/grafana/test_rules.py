"""The rules, tested by `promtool`: each alert fires exactly at the expected times."""

import re
from pathlib import Path

import pytest
import yaml

from grafana.builder.alerts import ALERTS
from grafana.builder.durations import promql
from grafana.builder.thresholds import EVALUATION_INTERVAL
from tests.grafana.cases import MUST_FIRE, MUST_NOT_FIRE, Case, fleet, killed, some_killed, stranded, with_jobs
from tests.grafana.intervals import AT_INTERVALS, INTERVALS, SECONDS, Intervals
from tests.grafana.promtool import RULES, Failures, Lane, batches, check, run_promtool
from tests.grafana.scrapes import input_series
from tests.processes import run, tool

# The first test waits for promtool, which takes 40 s of CPU time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_promtool_accepts_the_rules() -> None:
    checked = run(tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_has_a_case_that_fires() -> None:
    names = {alert.name for alert in ALERTS} - {"AmpWatchdog"}
    assert {name for case in MUST_FIRE for name in case.firing} == names


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Failures:
    """What promtool found wrong with each case, all cases beside each other: each start of it takes seconds."""
    lanes = [Lane(case.name, case.scrape, case.seconds, case.firing) for case in (*MUST_FIRE, *MUST_NOT_FIRE)]
    lanes += [
        Lane(f"{case.name}, {interval} s", case.scrape, SECONDS, case.firing.get(interval, {}), interval)
        for case in AT_INTERVALS
        for interval in INTERVALS
    ]
    found: dict[str, list[str]] = {}
    for batch in batches(lanes):
        found |= check(tmp_path_factory.mktemp("rules"), batch)
    return found


@pytest.mark.parametrize("case", [*MUST_FIRE, *MUST_NOT_FIRE], ids=lambda case: case.name)
def test_what_fires(case: Case, failures: Failures) -> None:
    assert not failures[case.name]


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("case", AT_INTERVALS, ids=lambda case: case.name)
def test_what_fires_at_each_scrape_interval(case: Intervals, interval: int, failures: Failures) -> None:
    assert not failures[f"{case.name}, {interval} s"]


def test_a_wrong_expectation_is_detected(tmp_path: Path) -> None:
    """The tests above can fail, each for itself."""
    wrong = Lane("wrong", lambda _: fleet(), 60, {"AmpWorkerLost": (30, 40)})
    found = check(tmp_path, [Lane("right", lambda _: fleet(), 60, {}), wrong])
    assert not found["right"]
    assert [re.findall(r"time: (\d+s)", failure) for failure in found["wrong"]] == [["30s"], ["35s"], ["40s"]]


def test_alerts_are_evaluated_twice_in_5_s_at_any_scrape_interval() -> None:
    group, _ = yaml.safe_load(RULES.read_text())["groups"]
    assert group["interval"] == promql(EVALUATION_INTERVAL) == "2500ms"


def test_the_watchdog_always_fires(tmp_path: Path) -> None:
    expectation = {"expr": 'count(ALERTS{alertname="AmpWatchdog", alertstate="firing"})', "eval_time": "0s"}
    samples = {"exp_samples": [{"value": 1}]}
    assert run_promtool(tmp_path, [], {"promql_expr_test": [expectation | samples]}) == ""


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
    assert run_promtool(tmp_path, input_series(case.scrape, case.seconds), {"alert_rule_test": [expectation]}) == ""


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
    assert run_promtool(tmp_path, input_series(case.scrape, case.seconds), {"alert_rule_test": [expectation]}) == ""


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
    assert run_promtool(tmp_path, input_series(case.scrape, case.seconds), {"alert_rule_test": [expectation]}) == ""
