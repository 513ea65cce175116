"""`ampctl worker jobs`, and stranded jobs in `worker check`."""

import json
import subprocess

import pytest

from tests.ctl.contract_api import ContractApi
from tests.processes import run_ampctl

JOBS = [
    {"id": 17, "status": "RUNNING", "updated_at": "2025-01-15T17:20:15Z", "dataset": "edge/blocks"},
    {"id": 23, "status": "ERR\x1b[31mOR", "updated_at": "2025-01-15T17:20:15Z", "dataset": None},
]
STRANDED = {"status": {"running": 3}, "stranded": {"lost": 2, "missing": 1}, "oldest_not_picked_up_age_seconds": None}


def ampctl(api: ContractApi, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_ampctl("--admin-url", api.url, "worker", *arguments)


def test_each_job_has_a_line_that_is_safe_for_a_terminal(contract_api: ContractApi) -> None:
    contract_api.jobs_of["gone"] = JOBS
    done = ampctl(contract_api, "jobs", "gone")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "17  RUNNING  2025-01-15T17:20:15Z  edge/blocks",
        "23  ERR\\x1b[31mOR  2025-01-15T17:20:15Z  unknown",
    ]
    assert json.loads(ampctl(contract_api, "jobs", "gone", "--json").stdout) == {"jobs": JOBS}


def test_no_jobs_and_unknown_jobs_differ(contract_api: ContractApi) -> None:
    contract_api.jobs_of |= {"idle": [], "unknown": None}
    idle = ampctl(contract_api, "jobs", "idle")
    assert (idle.returncode, idle.stdout, idle.stderr) == (0, "", "No unfinished jobs\n")
    unknown = ampctl(contract_api, "jobs", "unknown")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "jobs are unknown" in unknown.stderr
    missing = ampctl(contract_api, "jobs", "missing")
    assert (missing.returncode, "missing" in missing.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code"), [((), 1), (("--max-stranded", "3"), 0), (("--max-stranded", "2"), 1), (("--nagios",), 2)]
)
def test_stranded_jobs_fail_a_check(contract_api: ContractApi, arguments: tuple[str, ...], code: int) -> None:
    contract_api.jobs = STRANDED
    contract_api.workers[0]["jobs"] = 3
    done = ampctl(contract_api, "check", "--max-age", "15d", *arguments)
    assert done.returncode == code, done.stdout
    assert ("3 jobs are stranded" in done.stdout) == (code != 0)
    assert ("stranded_jobs=3;;0;0" in done.stdout) == ("--nagios" in arguments)
    as_json = json.loads(ampctl(contract_api, "check", "--max-age", "15d", *arguments, "-o", "json").stdout)
    assert as_json["stranded_jobs"] == 3
    assert ("3 jobs are stranded" in as_json["message"]) == (code != 0)


def test_a_fleet_of_no_workers_has_stranded_jobs(contract_api: ContractApi) -> None:
    contract_api.jobs, contract_api.workers = STRANDED, []
    done = ampctl(contract_api, "check", "--min-active", "0")
    assert (done.returncode, done.stdout) == (1, "FAILED: 3 jobs are stranded\n")


def test_unknown_jobs_pass_a_check_unless_their_number_is_limited(contract_api: ContractApi) -> None:
    assert ampctl(contract_api, "check", "--max-age", "15d").returncode == 0
    as_json = ampctl(contract_api, "check", "--max-age", "15d", "-o", "json").stdout
    assert json.loads(as_json)["stranded_jobs"] is None
    limited = ampctl(contract_api, "check", "--max-age", "15d", "--max-stranded", "0")
    assert limited.returncode == 3
    assert limited.stdout.startswith("UNKNOWN: ")


def test_a_check_that_passes_says_where_only_stranded_jobs_are_unknown(contract_api: ContractApi) -> None:
    contract_api.workers[0]["jobs"] = 3
    done = ampctl(contract_api, "check", "--max-age", "15d")
    assert (done.returncode, done.stdout) == (
        0,
        "OK: 4 workers, no heartbeat older than 15d; stranded jobs are unknown\n",
    )


def test_inspect_shows_the_end_of_a_worker_after_the_documented_lines(contract_api: ContractApi) -> None:
    worker = contract_api.workers[0]
    before = ampctl(contract_api, "inspect", worker["node_id"]).stdout
    worker |= {"stopped_at": "2025-01-15T17:20:15Z", "failure": "exit code 7"}
    after = ampctl(contract_api, "inspect", worker["node_id"]).stdout
    assert after == before + "\nStopped: 2025-01-15T17:20:15Z\nFailure: exit code 7\n"
