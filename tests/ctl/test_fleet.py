"""`ampctl fleet`: the counts of GET /fleet on one screen."""

import json

import pytest

from tests.ctl.contract_api import ContractApi, a_worker
from tests.processes import run_ampctl


def test_it_shows_states_versions_and_thresholds(api_url: str) -> None:
    done = run_ampctl("--admin-url", api_url, "fleet")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:8] == [
        "Workers: 6",
        *("      0  failed", "      1  lost", "      1  stale", "      0  stuck"),
        *("      2  active", "      1  stopped", "      1  forgotten"),
    ]
    assert lines[8:11] == ["Running versions:", "      2  v1.10.0", "      1  v1.9.0"]
    assert "Jobs: unknown" in lines
    assert "Thresholds: stale after " in lines[-1]
    assert json.loads(run_ampctl("--admin-url", api_url, "fleet", "--json").stdout)["workers"]["lost"] == 1


def test_it_shows_jobs_where_they_are_known_and_states_that_it_does_not_know(contract_api: ContractApi) -> None:
    contract_api.workers.append(a_worker("x", "of-tomorrow\x1b[31m"))
    contract_api.jobs = {
        "status": {"scheduled": 0, "running": 12, "fatal": 431},
        "stranded": {"lost": 2, "missing": 0},
        "oldest_not_picked_up_age_seconds": 75.5,
    }
    output = run_ampctl("--admin-url", contract_api.url, "fleet").stdout
    assert "      1  of-tomorrow\\x1b[31m\n" in output
    assert "Unfinished jobs:\n     12  running\n      2  stranded: their worker is lost\n" in output
    assert "not picked up for 1m15s" in output
    assert "\nFatal jobs: 431\n" in output
    contract_api.jobs = {"status": {"running": 0, "fatal": 7}, "stranded": {}}
    assert "\nUnfinished jobs: none\nFatal jobs: 7\n" in run_ampctl("--admin-url", contract_api.url, "fleet").stdout


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"workers": []},
        {"workers": {"lost": "1"}, "versions": {}},
        {"workers": {}, "versions": {}, "jobs": []},
        {"workers": {}, "versions": {}, "jobs": {"status": 5}},
        {"workers": {}, "versions": {}, "thresholds": {"stale": None}},
        {"workers": {}, "versions": {}, "oldest_heartbeat_age_seconds": "5"},
    ],
)
def test_an_answer_of_another_shape_is_an_error(contract_api: ContractApi, answer: object) -> None:
    contract_api.says = 200, answer
    done = run_ampctl("--admin-url", contract_api.url, "fleet")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "not a response of an Admin API" in done.stderr
