"""`ampctl worker forget` requires a confirmation, and reports each refusal."""

import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from tests.ctl.conftest import StartTerminal, fleet
from tests.ctl.contract_api import ContractApi, serving
from tests.processes import run, run_ampctl

TOKEN = {"AMP_AUTH_TOKEN": "s3cret"}


@pytest.fixture(autouse=True)
def authenticated(contract_api: ContractApi) -> None:
    contract_api.token = "Bearer s3cret"


def forget(api: ContractApi, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return run_ampctl("--admin-url", api.url, "worker", "forget", *arguments, env=TOKEN | dict(env or {}))


def deleted(api: ContractApi) -> list[str]:
    return [asked.rpartition("/")[2] for asked in api.asked if asked.startswith("DELETE")]


def test_named_workers_are_listed_and_removed(contract_api: ContractApi) -> None:
    done = forget(contract_api, "gamma", "delta", "gamma", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["STATE", "lost", "forgotten", "gamma:", "delta:"]
    assert deleted(contract_api) == ["gamma", "delta"]
    assert not {"gamma", "delta"} & {worker["node_id"] for worker in contract_api.workers}


def test_workers_are_chosen_by_state_and_age(contract_api: ContractApi) -> None:
    done = forget(contract_api, "--state", "forgotten,stopped", "--older-than", "30d", "--yes")
    assert done.returncode == 0
    assert deleted(contract_api) == ["delta"]
    unknown = forget(contract_api, "--state", "forgotten", "--yes")
    assert (unknown.returncode, unknown.stdout) == (0, "No workers to remove\n")


def test_a_dry_run_lists_and_removes_nothing(contract_api: ContractApi) -> None:
    done = forget(contract_api, "--state", "lost,stopped,forgotten", "--dry-run")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["STATE", "forgotten", "lost", "stopped", "3"]
    assert deleted(contract_api) == []


def test_each_refusal_is_reported_and_the_others_are_removed(
    contract_api: ContractApi, patient: dict[str, str]
) -> None:
    contract_api.in_use = {"gamma"}
    done = forget(contract_api, "beta", "gamma", "zeta", "gama", "--yes", env=patient)
    assert done.returncode == 1
    reported = done.stderr.splitlines()
    assert len(reported) == 3
    assert "(WORKER_NOT_FOUND). Did you mean 'gamma'?" in reported[0]
    assert "worker 'beta' is stale (WORKER_ALIVE)" in reported[1]
    assert "worker 'gamma' is still referred to (WORKER_IN_USE)" in reported[2]
    assert deleted(contract_api) == ["beta", "gamma", "zeta"]
    assert done.stdout.endswith("zeta: removed\n")


def test_an_unknown_node_id_exits_with_1(contract_api: ContractApi) -> None:
    for node_ids, arguments in (
        (["gama"], ["--yes"]),
        (["gama"], ["--dry-run"]),
        (["gamma", "gama"], ["--dry-run"]),
        (["gamma", "gama"], ["--yes"]),
    ):
        assert deleted(contract_api) == []
        done = forget(contract_api, *node_ids, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert ("No workers to remove" in done.stdout) == (len(node_ids) == 1)
    assert deleted(contract_api) == ["gamma"]


def test_a_worker_that_is_removed_meanwhile_is_no_failure() -> None:
    class Racing(ContractApi):
        def delete(self, node_id: str) -> tuple[int, Any]:
            super().delete(node_id)
            return super().delete(node_id)

    with serving(Racing(fleet().workers, token="Bearer s3cret")) as api:
        done = forget(api, "gamma", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("gamma: already removed\n")


def test_an_outage_ends_it_and_the_number_of_removed_workers_is_reported() -> None:
    class GoingAway(ContractApi):
        def delete(self, node_id: str) -> tuple[int, Any]:
            self.silent = node_id == "delta"
            return super().delete(node_id)

    with serving(GoingAway(fleet().workers, token="Bearer s3cret")) as api:
        done = forget(api, "beta", "delta", "gamma", "zeta", "--yes")
    assert done.returncode == 1
    refused, away = done.stderr.splitlines()
    assert "(WORKER_ALIVE)" in refused
    assert away.startswith("Error: cannot reach the Admin API")
    assert away.endswith("(1 of 4 removed)")
    assert len(deleted(api)) == 3


@pytest.mark.parametrize(
    ("token", "code"), [(None, "AUTHENTICATION_REQUIRED"), ("Bearer another", "UNAUTHORIZED")], ids=["none", "wrong"]
)
def test_an_error_that_applies_to_all_workers_is_reported_once(
    contract_api: ContractApi, token: str | None, code: str
) -> None:
    contract_api.token = token
    done = forget(contract_api, "gamma", "delta", "--yes")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert code in done.stderr
    assert len(deleted(contract_api)) <= 1


def test_the_real_api_without_authentication_removes_nothing(admin_url: str) -> None:
    done = run_ampctl("--admin-url", admin_url, "worker", "forget", "gamma", "delta", "--yes")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "(0 of 2 removed)" in done.stderr
    assert run_ampctl("--admin-url", admin_url, "worker", "inspect", "gamma").returncode == 0


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_in_a_terminal_it_asks_for_confirmation(
    contract_api: ContractApi, terminal: StartTerminal, answer: str, gone: bool
) -> None:
    shown = terminal("ampctl", "worker", "forget", "--state", "forgotten", url=contract_api.url, env=TOKEN)
    shown.says("Remove 1 from the metadata DB? [y/N]: ")
    assert "delta" in shown.output
    assert deleted(contract_api) == []
    shown.type(answer)
    assert shown.wait() == 0
    assert deleted(contract_api) == (["delta"] if gone else [])


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["gamma"], "give --yes or --dry-run"),
        (["--state", "forgotten"], "give --yes or --dry-run"),
        ([], "give either node ids or --state"),
        (["gamma", "--state", "lost", "--yes"], "give either node ids or --state"),
        (["gamma", "--older-than", "30d", "--yes"], "--older-than needs --state"),
        (["--state", "active", "--yes"], "'active' is not one of failed, lost, stopped, forgotten."),
    ],
)
def test_wrong_usage_sends_no_request(contract_api: ContractApi, arguments: list[str], reported: str) -> None:
    done = forget(contract_api, *arguments)
    assert done.returncode == 2
    assert reported in done.stderr
    assert contract_api.asked == []


def test_a_closed_input_is_not_a_terminal(contract_api: ContractApi) -> None:
    done = run("bash", "-c", f"ampctl --admin-url {contract_api.url} worker forget gamma <&-", env=TOKEN)
    assert done.returncode == 2
    assert "give --yes or --dry-run" in done.stderr
