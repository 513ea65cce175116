"""The user documentation, run against a fleet through a real shell, jq and curl."""

import json
import re
from collections.abc import Iterator

import psycopg
import pytest

from amp_workers.build_info import ENVIRONMENT
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.admin.witness import witness
from tests.conftest import fresh_database
from tests.e2e.recipes import BUILD, LIVE, RECIPES, ROWS, Recipe
from tests.node_ids import INVALID, VALID
from tests.processes import Processes, eventually, free_port, get, run, tool


@pytest.fixture(scope="module")
def shell(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running fleet, and an environment in which the documentation's `localhost:1610` is its Admin API."""
    directory = tmp_path_factory.mktemp("recipes")
    with fresh_database(postgres) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for node_id, created, registered, heartbeat, info in ROWS:
                connection.execute(
                    "INSERT INTO workers (node_id, created_at, registered_at, heartbeat_at, info) "
                    "VALUES (%s, %s, %s, %s, %s)",
                    (node_id, created, registered, heartbeat, json.dumps(info)),
                )
        port = free_port()
        started = Processes(directory)
        build = {ENVIRONMENT[key]: value for key, value in BUILD.items()}
        try:
            worker = started.ampd("worker", "--node-id", LIVE, database=url, env=build)
            started.ampd("admin", "--web.listen-address", f"127.0.0.1:{port}", database=url)
            worker.says("registered")
            eventually(lambda: get(f"http://127.0.0.1:{port}/-/ready"))
            with witness(port) as seen:
                (directory / ".curlrc").write_text(f'silent\nconnect-to = "localhost:1610:127.0.0.1:{seen}"\n')
                yield {"AMP_ADMIN_URL": f"http://localhost:{seen}", "CURL_HOME": str(directory)}
        finally:
            started.end()


def pattern(expected: str) -> str:
    """Return the regular expression for an expected output."""
    escaped = re.escape(expected)
    return escaped.replace("<time>", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").replace("<age>", r"\d+(\.\d+)?")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.heading)
def test_the_recipe_runs_as_printed(recipe: Recipe, shell: dict[str, str]) -> None:
    for program in ("jq", "curl"):
        if re.search(rf"\b{program}\b", recipe.command):
            tool(program)

    def prints() -> bool:
        done = run("bash", "-euo", "pipefail", "-c", recipe.command, env=shell)
        assert done.returncode == 0, done.stderr
        printed = done.stdout
        if recipe.command.startswith("curl") and not recipe.command.endswith("jq"):
            printed = json.dumps(json.loads(printed), indent=2) + "\n"  # the API's JSON is a single line
        assert re.fullmatch(pattern(recipe.prints), printed), printed
        return True

    # On a busy machine, the live worker can be silent for some seconds: the test repeats the recipe.
    eventually(prints)


def test_a_silent_worker_is_found_by_the_liveness_recipe_and_a_live_one_is_not(shell: dict[str, str]) -> None:
    recipe = next(recipe for recipe in RECIPES if "stale heartbeats" in recipe.heading)

    def finds() -> bool:
        found = run("bash", "-c", recipe.command, env=shell).stdout
        assert '"problematic-worker"' in found
        assert f'"{LIVE}"' not in found
        return True

    eventually(finds)


@pytest.mark.parametrize("node_id", sorted(set(VALID) - {LIVE, *(row[0] for row in ROWS)}))
def test_a_valid_node_id_is_accepted(shell: dict[str, str], node_id: str) -> None:
    """The API and ampctl accept the node id, and report that no such worker exists."""
    done = run("ampctl", "worker", "inspect", node_id, env=shell)
    assert done.returncode == 1
    assert "WORKER_NOT_FOUND" in done.stderr
    assert shell["AMP_ADMIN_URL"] in done.stderr
    tool("curl")
    assert "WORKER_NOT_FOUND" in run("curl", f"http://localhost:1610/workers/{node_id}", env=shell).stdout


@pytest.mark.parametrize("node_id", ["1-worker", "worker@01", "worker%2301", "worker%2F01", "worker-01%0A", "..", ""])
def test_an_invalid_node_id_is_refused_by_the_api(shell: dict[str, str], node_id: str) -> None:
    tool("curl")
    done = run("curl", "--path-as-is", f"http://localhost:1610/workers/{node_id}", env=shell)
    assert json.loads(done.stdout)["error_code"] == "INVALID_WORKER_ID"


@pytest.mark.parametrize("node_id", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_node_id_is_refused_by_ampctl(shell: dict[str, str], node_id: str) -> None:
    assert run("ampctl", "worker", "inspect", "--", node_id, env=shell).returncode == 2


@pytest.mark.slow
def test_an_empty_fleet_is_reported(processes: Processes, database: str, unused_port: int) -> None:
    processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{unused_port}", database=database)
    eventually(lambda: get(f"http://127.0.0.1:{unused_port}/-/ready"))
    with witness(unused_port) as seen:
        api = {"AMP_ADMIN_URL": f"http://127.0.0.1:{seen}"}
        listed = run("ampctl", "worker", "list", env=api)
        assert (listed.returncode, listed.stdout) == (0, "No workers found\n")
        assert run("ampctl", "worker", "list", "--json", env=api).stdout == '{\n  "workers": []\n}\n'
