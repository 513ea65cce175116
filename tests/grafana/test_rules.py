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


def assert_fires(
    directory: Path, case: Case, at: str, alert: str, labels: dict[str, str], texts: dict[str, str]
) -> None:
    """Check one alert of a case, with all of its labels and annotations."""
    runbook = {"runbook_url": f"http://localhost:3000/public/runbooks/index.html#{alert}"}
    fired = {"exp_labels": {"job": "amp"} | labels, "exp_annotations": texts | runbook}
    expectation = {"alertname": alert, "eval_time": at, "exp_alerts": [fired]}
    assert run_promtool(directory, input_series(case.scrape, case.seconds), {"alert_rule_test": [expectation]}) == ""


def test_an_alert_has_all_its_texts(tmp_path: Path) -> None:
    assert_fires(
        tmp_path,
        Case("a worker is killed", killed),
        "150s",
        "AmpWorkerLost",
        {"severity": "warning", "scope": "worker", "node_id": "worker-01"},
        {
            "summary": "Worker worker-01 of amp is lost",
            "description": "The last heartbeat of worker worker-01 of amp is 1m 30s away from now. It is unlikely to "
            "recover without intervention. The alert also resolves when the worker becomes forgotten, after 24 hours.",
            "dashboard_url": "http://localhost:3000/d/amp-worker?var-job=amp&var-node_id=worker-01",
        },
    )


def test_stranded_jobs_are_counted_and_the_worker_with_the_most_is_named(tmp_path: Path) -> None:
    assert_fires(
        tmp_path,
        Case("jobs are stranded", with_jobs(stranded)),
        "140s",
        "AmpJobsStranded",
        {"severity": "critical", "scope": "jobs"},
        {
            "summary": "5 jobs of amp are stranded",
            "description": "5 jobs of amp belong to workers that are lost, failed, stopped, forgotten or missing. No "
            "other worker takes them over. The worker with the most is worker-91, with 3.",
            "dashboard_url": "http://localhost:3000/d/amp-fleet?var-job=amp",
        },
    )


def test_a_share_is_shown_in_percent(tmp_path: Path) -> None:
    assert_fires(
        tmp_path,
        Case("half the fleet is killed", some_killed(5)),
        "100s",
        "AmpFleetShareLost",
        {"severity": "critical", "scope": "fleet"},
        {
            "summary": "50% of the workers of amp are down",
            "description": "50% of the workers of amp failed, or sent no heartbeat for 8 s, within the last hour. "
            "Workers that stopped on purpose do not count.",
            "dashboard_url": "http://localhost:3000/d/amp-fleet?var-job=amp",
        },
    )
