"""`ampctl` with the Admin API of Amp itself, which has the same port and paths, and fewer fields."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ctl.contract_api import ContractApi, serving
from tests.processes import run_ampctl

INFO = {"version": "v0.0.22", "commit_sha": "8b065bde", "commit_timestamp": "unknown", "build_date": "unknown"}


class AmpsOwnApi(ContractApi):
    """Responds as Amp's own API does: it ignores parameters, and returns 404 without a body for unknown paths."""

    def answer(self, method: str, target: str, authorization: str | None) -> tuple[int, Any]:  # noqa: ARG002
        self.asked.append(f"{method} {target}")
        path = target.partition("?")[0]
        if path == "/workers":
            return 200, {
                "workers": [{name: each[name] for name in ("node_id", "heartbeat_at")} for each in self.workers]
            }
        if path.startswith("/workers/"):
            return self._get(path.removeprefix("/workers/"))
        return 404, None


@pytest.fixture
def amps_own_api() -> Iterator[ContractApi]:
    workers = [
        {
            "node_id": node_id,
            "info": INFO,
            "created_at": "2025-01-01T12:00:00.5+00:00",
            "registered_at": "2025-01-15T16:45:30.789012+00:00",
            "heartbeat_at": heartbeat_at,
        }
        for node_id, heartbeat_at in (
            ("worker-02", "2025-01-15T17:20:15.456789+00:00"),
            ("worker-01", "2025-01-15T18:20:10+01:00"),
        )
    ]
    with serving(AmpsOwnApi(workers)) as api:
        yield api


def ampctl(api: ContractApi, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_ampctl("--admin-url", api.url, *arguments)


def test_list_has_the_documented_lines(amps_own_api: ContractApi) -> None:
    done = ampctl(amps_own_api, "worker", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "worker-01 (last heartbeat: 2025-01-15T17:20:10Z)\nworker-02 (last heartbeat: 2025-01-15T17:20:15Z)\n"
    )
    assert ampctl(amps_own_api, "worker", "list", "--limit", "1").stdout.startswith("worker-01 (")


def test_any_order_may_be_limited(amps_own_api: ContractApi) -> None:
    for order in ("node-id", "state", "last-seen"):
        done = ampctl(amps_own_api, "worker", "list", "--sort", order, "--limit", "1")
        assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
        assert done.stderr == "There are more workers: --limit is 1.\n"


def test_inspect_has_the_documented_lines(amps_own_api: ContractApi) -> None:
    done = ampctl(amps_own_api, "worker", "inspect", "worker-02")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Node ID: worker-02\nCreated: 2025-01-01T12:00:00Z\nRegistered: 2025-01-15T16:45:30Z\n"
        "Heartbeat: 2025-01-15T17:20:15Z\n\nWorker Info:\n  Version: v0.0.22\n  Commit: 8b065bde\n"
        "  Commit Timestamp: unknown\n  Build Date: unknown\n"
    )


def test_json_has_the_available_fields_with_timestamps_for_jq(amps_own_api: ContractApi) -> None:
    listed = json.loads(ampctl(amps_own_api, "worker", "list", "--json").stdout)
    assert listed["workers"][0] == {"node_id": "worker-01", "heartbeat_at": "2025-01-15T17:20:10Z"}
    inspected = json.loads(ampctl(amps_own_api, "worker", "inspect", "worker-01", "--json").stdout)
    assert (inspected["info"], inspected["created_at"]) == (INFO, "2025-01-01T12:00:00Z")
    assert "state" not in inspected


def test_missing_fields_are_unknown(amps_own_api: ContractApi) -> None:
    listed = ampctl(amps_own_api, "worker", "list", "--wide")
    assert listed.returncode == 0
    assert "unknown" in listed.stdout.splitlines()[1]
    inspected = ampctl(amps_own_api, "worker", "inspect", "worker-01", "--wide")
    assert "State: unknown\n" in inspected.stdout


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [
        ("worker list --state lost", 1),
        ("worker list --version v0.0.22", 1),
        ("worker check", 3),
        ("worker check worker-01", 3),
        ("worker forget worker-01 --yes", 1),
        ("worker forget --state lost --yes", 1),
        ("version", 1),
    ],
)
def test_unsupported_operations_are_explained(amps_own_api: ContractApi, command: str, exit_code: int) -> None:
    done = ampctl(amps_own_api, *command.split())
    assert done.returncode == exit_code
    output = done.stdout + done.stderr
    assert re.search(rf"{amps_own_api.url}: this is Amp's own Admin API, which has no worker states", output)
    assert "--admin-url or AMP_ADMIN_URL" in output
    assert "OK" not in output
    assert not [each for each in amps_own_api.asked if not each.startswith("GET")]


def test_an_unknown_worker_is_an_error(amps_own_api: ContractApi) -> None:
    done = ampctl(amps_own_api, "worker", "inspect", "worker-03")
    assert done.returncode == 1
    assert "(WORKER_NOT_FOUND)" in done.stderr
