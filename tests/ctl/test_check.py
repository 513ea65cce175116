"""`ampctl worker check`: the result, one line per failing worker, and the exit code."""

import socket
import subprocess

import pytest

from tests.ctl.contract_api import ContractApi
from tests.processes import free_port, run_ampctl


def check(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_ampctl("--admin-url", url, "worker", "check", *arguments)


def test_all_pass(api_url: str) -> None:
    done = check(api_url, "--max-age", "15d")
    assert (done.returncode, done.stdout, done.stderr) == (0, "OK: 4 workers, no heartbeat older than 15d\n", "")


def test_each_failing_worker_has_a_line_and_stopped_and_forgotten_ones_do_not_count(api_url: str) -> None:
    done = check(api_url, "--max-age", "2d", "--version", "v1.10.0")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "FAILED: 3 of 4 workers fail",
        "beta: stale, last heartbeat 6d ago",
        "epsilon-10: version v1.9.0, not v1.10.0",
        "gamma: lost, last heartbeat 12d ago; version v1.9.0, not v1.10.0",
    ]


def test_the_version_is_a_glob(api_url: str) -> None:
    assert check(api_url, "--max-age", "15d", "--version", "v1.?*").returncode == 0
    assert "epsilon-9: version v1.10.0, not v1.9.*" in check(api_url, "--version", "v1.9.*", "--max-age", "15d").stdout


def test_a_named_worker_must_exist_in_any_state(api_url: str) -> None:
    done = check(api_url, "epsilon-9", "zeta", "delta", "unknown", "zeta", "--max-age", "2d")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "FAILED: 3 of 4 workers fail",
        "zeta: stopped",
        "delta: forgotten, last heartbeat 60d ago",
        "unknown: no worker with this node id",
    ]
    assert check(api_url, "epsilon-9", "--max-age", "2d").returncode == 0


def test_too_few_workers_fail_and_no_workers_fail_unless_allowed(contract_api: ContractApi) -> None:
    few = check(contract_api.url, "--max-age", "15d", "--min-active", "5")
    assert (few.returncode, few.stdout) == (1, "FAILED: 4 workers pass, at least 5 must\n")
    contract_api.workers = [each for each in contract_api.workers if each["state"] in {"stopped", "forgotten"}]
    none = check(contract_api.url)
    assert (none.returncode, none.stdout) == (1, "FAILED: 0 workers pass, at least 1 must\n")
    allowed = check(contract_api.url, "--min-active", "0")
    assert (allowed.returncode, allowed.stdout) == (0, "OK: 0 workers, no heartbeat older than 5s\n")


def test_the_limit_of_5_s_is_the_default(contract_api: ContractApi) -> None:
    (worker,) = contract_api.workers = contract_api.workers[2:3]
    worker["heartbeat_age_seconds"] = 5.0
    assert check(contract_api.url).returncode == 0
    worker["heartbeat_age_seconds"] = 5.001
    assert check(contract_api.url).stdout.endswith("\nepsilon-10: active, last heartbeat 5.001s ago\n")


def test_a_stale_worker_fails_unless_its_age_is_allowed(contract_api: ContractApi) -> None:
    (worker,) = contract_api.workers = contract_api.workers[:1]
    worker["heartbeat_age_seconds"] = 3.0  # the API runs with --stale-after 2
    assert check(contract_api.url).stdout.endswith("\nbeta: stale, last heartbeat 3s ago\n")
    assert check(contract_api.url, "--max-age", "5s").returncode == 0


@pytest.mark.parametrize("age", [0.4, -0.4])
def test_an_age_is_printed_as_precisely_as_it_is_compared(contract_api: ContractApi, age: float) -> None:
    (worker,) = contract_api.workers = contract_api.workers[2:3]
    worker["heartbeat_age_seconds"] = age
    done = check(contract_api.url, "--max-age", "0s")
    assert done.returncode == 1
    assert f"last heartbeat 0.400s {'ago' if age > 0 else 'in the future'}\n" in done.stdout


def test_the_most_distant_heartbeat_hides_no_other_failure(contract_api: ContractApi) -> None:
    contract_api.workers[2]["heartbeat_age_seconds"] = -9.99e11
    done = check(contract_api.url, "--nagios")
    assert done.returncode == 2
    assert "\nbeta: stale, last heartbeat " in done.stdout
    assert "\nepsilon-10: active, last heartbeat 11562500d in the future\n" in done.stdout


@pytest.mark.parametrize("age", [-7.0, 7.0])
def test_a_heartbeat_from_the_future_is_as_bad_as_an_old_one(contract_api: ContractApi, age: float) -> None:
    contract_api.workers[2]["heartbeat_age_seconds"] = age
    assert check(contract_api.url, "epsilon-10").returncode == 1
    assert check(contract_api.url, "epsilon-10", "--max-age", "8s").returncode == 0


@pytest.mark.parametrize("state", ["failed", "stuck", "a state of tomorrow"])
def test_failed_stuck_and_unknown_states_fail_at_any_allowed_age(contract_api: ContractApi, state: str) -> None:
    (worker,) = contract_api.workers = contract_api.workers[2:3]
    worker |= {"state": state, "heartbeat_age_seconds": 0.1, "failure": "exit code 7"}
    done = check(contract_api.url, "--max-age", "30d")
    assert done.returncode == 1
    assert done.stdout.endswith(f"\nepsilon-10: {state}, last heartbeat 0.100s ago; exit code 7\n")


@pytest.mark.parametrize("node_ids", [[], ["worker-01"]])
def test_an_unavailable_api_is_unknown(node_ids: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = check(url, *node_ids)
    assert done.returncode == 3
    assert done.stdout == f"UNKNOWN: cannot reach the Admin API at {url}: Connection refused\n"


@pytest.mark.slow
def test_an_api_that_hangs_is_unknown_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = check(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert done.returncode == 3
    assert done.stdout.endswith(": timed out\n")


def test_an_error_of_the_api_is_unknown(contract_api: ContractApi) -> None:
    contract_api.token = "Bearer s3cret"
    done = check(contract_api.url)
    assert done.returncode == 3
    assert done.stdout.startswith("UNKNOWN: ")
    assert "UNAUTHORIZED" in done.stdout
