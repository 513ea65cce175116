"""`ampctl worker check --nagios` as a Nagios plugin."""

import json
import subprocess

import pytest

from amp_workers.ctl.ranges import InvalidRange, Range
from tests.ctl.contract_api import ContractApi, a_worker
from tests.processes import free_port, run, run_ampctl


def check(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_ampctl("--admin-url", url, "worker", "check", "--nagios", *arguments)


def test_the_first_line_has_the_result_and_performance_data(contract_api: ContractApi) -> None:
    contract_api.workers.append(a_worker("fresh"))
    done = check(contract_api.url, "--max-age", "15d")
    assert done.returncode == 0
    assert done.stdout == (
        "OK: 5 workers, no heartbeat older than 15d | active=3;;;0 stuck=0;;;0 stale=1;;;0 lost=1;;;0 failed=0;;;0 "
        "stopped=1;;;0 forgotten=1;;;0 failing=0;;0;0\n"
    )


def test_no_text_of_a_worker_begins_performance_data(contract_api: ContractApi) -> None:
    contract_api.workers = [a_worker("odd", "failed", failure="a | active=99")]
    done = check(contract_api.url)
    first, second = done.stdout.splitlines()
    assert first.count("|") == 1
    assert second == "odd: failed, last heartbeat 1s ago; a / active=99"
    contract_api.says = 503, {"error_code": "METADATA_DB_UNAVAILABLE", "error_message": "a | b"}
    assert "|" not in check(contract_api.url).stdout


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        ([], "CRITICAL", 2),
        (["--critical", "2"], "OK", 0),
        (["--critical", "1"], "CRITICAL", 2),
        (["--warning", "0"], "WARNING", 1),
        (["--warning", "1", "--critical", "5"], "WARNING", 1),
        (["--warning", "0", "--critical", "1"], "CRITICAL", 2),
        (["--warning", "2:", "--critical", "5"], "OK", 0),
        (["--critical", "@2"], "CRITICAL", 2),
        (["--critical", "9", "--min-active", "3"], "CRITICAL", 2),
    ],
)
def test_the_ranges_are_of_the_number_of_failing_workers(
    contract_api: ContractApi, arguments: list[str], status: str, code: int
) -> None:
    done = check(contract_api.url, "--max-age", "2d", *arguments)  # beta and gamma fail
    assert (done.returncode, done.stdout.partition(":")[0]) == (code, status)
    assert "beta: stale, last heartbeat 6d ago" in done.stdout.splitlines()[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-age", "soon"],
        ["--warning", "x"],
        ["--warning", "5:1"],
        ["1-worker"],
        ["--nonsense"],
        ["--min-active"],
        ["--output", "xml"],
    ],
)
def test_wrong_usage_is_unknown_and_not_critical(arguments: list[str]) -> None:
    done = check(f"http://127.0.0.1:{free_port()}", *arguments)
    assert (done.returncode, done.stdout.startswith("UNKNOWN: "), done.stdout.count("\n")) == (3, True, 1)
    without = run_ampctl("worker", "check", *[each for each in arguments if each != "--nagios"])
    assert without.returncode == 2


def test_wrong_usage_outside_of_check_is_unknown_as_well() -> None:
    done = run_ampctl("--admin-url", "localhost:1610", "worker", "check", "--nagios")
    assert (done.returncode, done.stdout.startswith("UNKNOWN: ")) == (3, True)
    token = run_ampctl("--auth-token", "a b", "worker", "check", "--nagios")
    assert (token.returncode, token.stdout.startswith("UNKNOWN: ")) == (3, True)
    alone = run_ampctl("worker", "check", "--warning", "1")
    assert (alone.returncode, "--warning and --critical need --nagios" in alone.stderr) == (2, True)


def test_an_api_that_cannot_be_reached_is_unknown() -> None:
    done = check(f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout.startswith("UNKNOWN: cannot reach the Admin API")) == (3, True)


def test_json(contract_api: ContractApi) -> None:
    command = ("ampctl", "--admin-url", contract_api.url, "worker", "check", "-o", "json", "--max-age", "2d")
    done = run(*command)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["status"], document["counted"], document["passing"]) == ("FAILED", 4, 2)
    assert document["failures"][0] == {"node_id": "beta", "reason": "stale, last heartbeat 6d ago"}
    assert document["states"]["lost"] == 1
    assert json.loads(run(*command, "--nagios").stdout)["status"] == "CRITICAL"
    contract_api.silent = True
    unknown = run(*command)
    assert (unknown.returncode, json.loads(unknown.stdout)["status"]) == (3, "UNKNOWN")


@pytest.mark.parametrize(
    ("text", "violating", "passing"),
    [
        ("10", [-1, 11], [0, 10]),
        ("10:", [9], [10, 1e8]),
        ("~:10", [11], [-5, 10]),
        ("10:20", [9, 21], [10, 20]),
        ("@10:20", [10, 20], [9, 21]),
        ("0", [1], [0]),
        ("-5:-1", [0], [-3]),
    ],
)
def test_ranges_are_those_of_the_plugin_guidelines(text: str, violating: list[float], passing: list[float]) -> None:
    found = Range.parse(text)
    assert all(map(found.is_violated_by, violating))
    assert not any(map(found.is_violated_by, passing))
    assert str(found) == text


@pytest.mark.parametrize("text", ["", ":", "@", "a", "5:1", "1:2:3", "~", "1 2", "٣"])
def test_an_invalid_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidRange):
        Range.parse(text)
