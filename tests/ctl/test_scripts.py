"""The features of `ampctl worker list` for scripts: selection, formats, and an empty result."""

import json

import pytest

from tests.ctl.contract_api import ContractApi, a_worker
from tests.processes import run_ampctl

pytestmark = pytest.mark.slow


def ampctl(api: ContractApi, *arguments: str, **env: str) -> tuple[int, str, str]:
    done = run_ampctl("--admin-url", api.url, *arguments, env=env)
    return done.returncode, done.stdout, done.stderr


def names(url: str, *arguments: str) -> list[str]:
    done = run_ampctl("--admin-url", url, "worker", "list", "-o", "name", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_globs_select_node_ids_and_versions(api_url: str) -> None:
    assert names(api_url, "epsilon-*") == ["epsilon-10", "epsilon-9"]
    assert names(api_url, "epsilon-?", "*eta") == ["beta", "epsilon-9", "zeta"]
    assert names(api_url, "--version", "v1.9.*") == ["epsilon-10", "gamma", "zeta"]
    assert names(api_url, "e*", "--version", "v1.1?.0") == ["epsilon-9"]
    assert names(api_url, "gamma") == ["gamma"]


def test_ampctl_applies_globs_if_the_api_ignores_them(contract_api: ContractApi) -> None:
    contract_api.says = 200, {"workers": contract_api.workers}
    assert names(contract_api.url, "*eta", "--version", "v1.9.?") == ["zeta"]
    assert names(contract_api.url, "b.ta") == []


def test_problems_are_the_unhealthy_workers_and_the_worst_come_first(contract_api: ContractApi) -> None:
    contract_api.workers += [a_worker("x", "failed"), a_worker("y", "stuck"), a_worker("z", "of-tomorrow")]
    assert names(contract_api.url, "--problems", "--sort", "state") == ["x", "gamma", "beta", "y", "z"]
    assert names(contract_api.url, "--problems", "--sort", "state", "--reverse") == ["z", "y", "beta", "gamma", "x"]
    assert names(contract_api.url, "--reverse", "--limit", "1") == ["zeta"]


def test_jsonl_has_one_worker_per_line(contract_api: ContractApi) -> None:
    code, output, errors = ampctl(contract_api, "worker", "list", "-o", "jsonl")
    assert (code, errors) == (0, "")
    assert [json.loads(line) for line in output.splitlines()] == contract_api.workers


def test_the_environment_chooses_the_format_and_an_option_comes_first(contract_api: ContractApi) -> None:
    listed = ("worker", "list", "beta")
    assert ampctl(contract_api, *listed, AMPCTL_OUTPUT="wide")[1].startswith("STATE ")
    assert ampctl(contract_api, *listed, "-o", "name", AMPCTL_OUTPUT="wide")[1] == "beta\n"
    assert ampctl(contract_api, *listed, "--json", AMPCTL_OUTPUT="wide")[1].startswith("{")
    assert ampctl(contract_api, *listed, AMPCTL_OUTPUT="")[1].startswith("beta (")
    # A command ignores a format of the environment that it does not have.
    assert ampctl(contract_api, "worker", "inspect", "beta", AMPCTL_OUTPUT="csv")[1].startswith("Node ID: beta")
    code, _, errors = ampctl(contract_api, *listed, AMPCTL_OUTPUT="xml")
    assert (code, "AMPCTL_OUTPUT" in errors) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "output", "errors"),
    [
        ([], "No workers found\n", ""),
        (["--json"], '{\n  "workers": []\n}\n', ""),
        (["--wide"], "", "No workers found\n"),
        (["-o", "name"], "", "No workers found\n"),
        (["-o", "csv", "--columns", "id"], "node_id\n", "No workers found\n"),
        (
            ["x*", "--state", "lost,stale", "--version", "v9"],
            "",
            "No workers found with node id x* and state lost, stale and version v9\n",
        ),
        (["--problems"], "", "No workers found with a problem\n"),
    ],
)
def test_an_empty_list(contract_api: ContractApi, arguments: list[str], output: str, errors: str) -> None:
    contract_api.workers = []
    assert ampctl(contract_api, "worker", "list", *arguments) == (0, output, errors)


def test_aliases(contract_api: ContractApi) -> None:
    wide = ampctl(contract_api, "worker", "inspect", "beta", "--wide")
    assert wide[0] == 0
    assert ampctl(contract_api, "worker", "describe", "beta") == wide
    assert ampctl(contract_api, "workers", "get", "beta", "--wide") == wide


@pytest.mark.parametrize("command", ["list", "ls", "inspect", "check", "forget"])
def test_a_command_of_worker_without_worker_is_recognized(command: str) -> None:
    done = run_ampctl(command)
    assert done.returncode == 2
    assert done.stderr.endswith(f"Did you mean: ampctl worker {command}\n")


def test_describe_shows_all_fields_of_the_api(contract_api: ContractApi) -> None:
    contract_api.workers = [
        a_worker("w", "failed", 40, failure="exit code 7", exit_code=7, jobs=2, progress="block\x1b5")
    ]
    output = ampctl(contract_api, "worker", "describe", "w")[1]
    assert "State: failed\nLast Seen: 40s\nUptime: -\nFailure: exit code 7\nExit Code: 7\n" in output
    assert "Progress: block\\x1b5\nUnfinished Jobs: 2\n" in output


def test_versions_as_json(contract_api: ContractApi) -> None:
    code, output, _ = ampctl(contract_api, "version", "-o", "json")
    assert (code, json.loads(output)["admin_api"], json.loads(output)["admin_url"]) == (0, "9.8.7", contract_api.url)
    contract_api.silent = True
    code, output, _ = ampctl(contract_api, "version", "-o", "json")
    assert (code, json.loads(output)["admin_api"]) == (1, None)
