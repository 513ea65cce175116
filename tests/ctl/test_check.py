"""`ampctl worker check`: a line of result, a line a failing worker, and an exit code to act on."""

import socket
import subprocess

import pytest

from tests.ctl.contract_api import ContractApi
from tests.processes import free_port, run


def check(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("ampctl", "--admin-url", url, "worker", "check", *arguments)


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


def test_a_worker_that_is_named_has_to_be_there_whatever_its_state(api_url: str) -> None:
    done = check(api_url, "epsilon-9", "zeta", "delta", "nobody", "zeta", "--max-age", "2d")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "FAILED: 3 of 4 workers fail",
        "zeta: stopped",
        "delta: forgotten, last heartbeat 60d ago",
        "nobody: no such worker ever registered, or it was removed",
    ]
    assert check(api_url, "epsilon-9", "--max-age", "2d").returncode == 0


def test_too_few_are_a_failure_and_so_are_none_unless_allowed(contract_api: ContractApi) -> None:
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
    assert check(contract_api.url).returncode == 1


@pytest.mark.parametrize("node_ids", [[], ["worker-01"]])
def test_an_api_that_does_not_answer_is_neither_good_nor_bad(node_ids: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = check(url, *node_ids)
    assert done.returncode == 3
    assert done.stdout == f"UNKNOWN: cannot reach the Admin API at {url}: Connection refused\n"


def test_an_api_that_hangs_is_unknown_and_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = check(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert done.returncode == 3
    assert done.stdout.endswith(": timed out\n")


def test_an_api_that_says_no_is_unknown_as_well(contract_api: ContractApi) -> None:
    contract_api.token = "Bearer s3cret"
    done = check(contract_api.url)
    assert done.returncode == 3
    assert done.stdout.startswith("UNKNOWN: ")
    assert "UNAUTHORIZED" in done.stdout
