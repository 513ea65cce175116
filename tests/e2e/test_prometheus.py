"""A real Prometheus scrapes a running exporter, and evaluates the queries of operators."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Insert
from tests.processes import ROOT, Process, Processes, eventually, free_port, get, run, tool
from tests.prometheus import Prometheus

pytestmark = pytest.mark.slow


@pytest.fixture
def workers(processes: Processes, database: str, insert_worker: Insert) -> list[Process]:
    """Two workers that are active, and one in each other state."""
    running = [
        processes.ampd("worker", "--node-id", f"live-{number}", database=database, env={"AMP_BUILD_VERSION": "v2"})
        for number in (1, 2)
    ]
    insert_worker("stale", 6.0, '{"version": "v1"}')
    insert_worker("lost", 600.0, '{"version": "v1"}')
    insert_worker("stopped", 600.0, '{"version": "v1", "stopped_at": "2999-01-15T17:20:15+00:00"}')
    insert_worker("forgotten", 90_000.0, '{"version": "v0"}')
    for worker in running:
        worker.says("registered")
    return running


@pytest.fixture
def exporter(processes: Processes, database: str) -> int:
    port = free_port()
    processes.ampd("exporter", "--web.listen-address", f"127.0.0.1:{port}", database=database)
    eventually(lambda: get(f"http://127.0.0.1:{port}/-/ready"))
    return port


Ask = Callable[[str], dict[str, float]]


@pytest.fixture
def ask(processes: Processes, exporter: int, tmp_path: Path) -> Ask:
    """Query Prometheus: `ask("sum by (state) (amp_workers)")` returns the values by the labels' values.

    The result is empty if the machine was too busy for the last scrape.
    """
    prometheus = Prometheus(processes, tmp_path / "prometheus", {"amp": exporter})

    def query(expression: str) -> dict[str, float]:
        found = prometheus.query(expression)
        return {",".join(value for _, value in sorted(labels)): value for labels, value in found.items()}

    eventually(lambda: query("up == 1"))
    return query


@pytest.mark.usefixtures("workers")
def test_the_workers_by_state(ask: Ask) -> None:
    expected = {"failed": 0, "lost": 1, "stale": 1, "stuck": 0, "active": 2, "stopped": 1, "forgotten": 1}
    eventually(lambda: ask("sum by (state) (amp_workers)") == expected)
    eventually(lambda: ask("sum(amp_workers)") == {"": 6})


@pytest.mark.usefixtures("workers")
def test_the_ages_of_heartbeats(ask: Ask) -> None:
    for query, node_ids in {
        "max by (node_id) (amp_worker_heartbeat_age_seconds > 5)": {"stale", "lost"},
        "max by (node_id) (amp_worker_heartbeat_age_seconds < 5)": {"live-1", "live-2"},
        "max by (node_id) (amp_worker_stopped_timestamp_seconds)": {"stopped"},
    }.items():
        eventually(lambda query=query, node_ids=node_ids: set(ask(query)) == node_ids)  # type: ignore[misc]
    eventually(lambda: ask("sum(amp_fleet_heartbeat_age_seconds_gcount)") == {"": 4})


@pytest.mark.usefixtures("workers")
def test_the_versions(ask: Ask) -> None:
    versions = {"live-1,v2", "live-2,v2", "stale,v1", "lost,v1", "stopped,v1"}
    eventually(lambda: set(ask("max by (node_id, version) (amp_worker_info)")) == versions)
    eventually(lambda: ask("sum by (version) (amp_workers_by_version)") == {"v2": 2, "v1": 1})
    joined = "amp_worker_heartbeat_age_seconds * on (node_id) group_left (version) amp_worker_info{version='v2'}"
    eventually(lambda: len(ask(joined)) == 2)


def test_a_killed_worker_does_not_stay_up(ask: Ask, workers: list[Process]) -> None:
    eventually(lambda: ask("sum(amp_workers{state='active'})") == {"": 2})
    workers[0].signal(signal.SIGKILL)
    eventually(lambda: ask("sum(amp_workers{state='active'})") == {"": 1})
    silent = "max by (node_id) (amp_worker_heartbeat_age_seconds > 5)"
    eventually(lambda: set(ask(silent)) == {"live-1", "stale", "lost"})
    # A worker that stops on purpose is distinguished from it.
    assert workers[1].stop() == 0
    eventually(lambda: ask("sum(amp_workers{state='stopped'})") == {"": 2})


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("path", ["/metrics", "/metrics?name[]=amp_workers"])
def test_promtool_reports_no_problem(exporter: int, path: str, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.txt"
    metrics.write_text(get(f"http://127.0.0.1:{exporter}{path}"))
    checked = run("sh", "-c", f"{tool('promtool')} check metrics < {metrics}")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.usefixtures("workers")
def test_every_documented_query_is_answered(ask: Ask) -> None:
    documentation = (ROOT / "docs" / "metrics.md").read_text()
    queries = [part.split("```", 1)[0].strip() for part in documentation.split("```promql")[1:]]
    assert len(queries) > 10
    for query in queries:
        ask(query)
