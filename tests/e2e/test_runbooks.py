"""Every command and query of a runbook works, on a fleet that runs. What they are for is not tested here."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from grafana.builder.alerts import ALERTS
from tests.admin.witness import witness
from tests.alarm.alertmanager import start_alertmanager
from tests.conftest import Insert, Witnessed, fresh_database
from tests.processes import ROOT, Processes, eventually, free_port, get, run, tool
from tests.prometheus import Prometheus

RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ["First 60 seconds", "Meaning", "Impact", "Diagnosis", "Mitigation"]
RULES = ROOT / "grafana" / "rules" / "amp.yml"


def blocks(language: str) -> Iterator[object]:
    """The blocks of a language in all pages, each once."""
    seen = set()
    for page in sorted(RUNBOOKS.glob("*.md")):
        for number, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S), 1):
            if block not in seen:
                seen.add(block)
                yield pytest.param(block, id=f"{page.stem}-{number}")


@dataclass(frozen=True)
class Addresses:
    ports: dict[str, int]
    prometheus: Prometheus

    def here(self, command: str) -> str:
        """Return a command for where the servers of the test listen."""
        for port, ours in self.ports.items():
            command = command.replace(f"localhost:{port}", f"127.0.0.1:{ours}")
        return command


@pytest.fixture(scope="module")
def addresses(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    directory = tmp_path_factory.mktemp("runbooks")
    processes = Processes(directory)
    admin, exporter = free_port(), free_port()
    with fresh_database(postgres) as url:
        try:
            for node_id in ("worker-01", "worker-02"):
                processes.ampd("worker", "--node-id", node_id, database=url).says("registered")
            processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{admin}", database=url)
            processes.ampd("exporter", "--web.listen-address", f"127.0.0.1:{exporter}", database=url)
            alertmanager = start_alertmanager(processes, directory, free_port())
            prometheus = Prometheus(
                processes, directory / "prometheus", {"amp": exporter}, rules=[RULES], alertmanager=alertmanager
            )
            eventually(lambda: get(f"http://127.0.0.1:{admin}/-/ready"))
            eventually(lambda: prometheus.query("job:amp_fleet_settled:max"), 60)
            with witness(admin) as seen:
                ports = {"1610": seen, "9610": exporter, "9090": prometheus.port, "9093": alertmanager}
                yield Addresses(ports, prometheus)
        finally:
            processes.end()


@pytest.mark.slow
@pytest.mark.parametrize("command", list(blocks("sh")))
def test_a_command_works(addresses: Addresses, command: str) -> None:
    # In the pages a failure is an answer too, and must not end a shell; here it must not happen.
    strict = re.sub(r" \|\| true", "", addresses.here(command))
    assert strict.strip()
    for name in ("curl", "jq"):
        tool(name)
    admin = f"http://127.0.0.1:{addresses.ports['1610']}"
    done = run("bash", "-euo", "pipefail", "-c", strict, env={"AMP_ADMIN_URL": admin})
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_are_removed_as_the_pages_say(
    processes: Processes,
    database: str,
    sql: Callable[..., list[Any]],
    insert_worker: Insert,
    unused_port: int,
    witnessed: Witnessed,
) -> None:
    """Through the Admin API, which refuses some; never with SQL, which does not."""
    pages = "".join(page.read_text() for page in sorted(RUNBOOKS.glob("*.md")))
    assert "DELETE FROM" not in pages
    for node_id, days in (("worker-01", 0.5), ("worker-02", 20), ("worker-03", 31)):
        insert_worker(node_id, days * 86_400)
    token = {"AMP_AUTH_TOKEN": "a-token-of-the-operator"}
    processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{unused_port}", database=database, env=token)
    eventually(lambda: get(f"http://127.0.0.1:{unused_port}/-/ready"))
    api = token | {"AMP_ADMIN_URL": f"http://127.0.0.1:{witnessed(unused_port)}"}
    left = []
    for command in dict.fromkeys(re.findall(r"^ampctl worker forget .*$", pages, re.M)):
        strict = re.sub(r" \|\| true", "", command)
        done = run("bash", "-c", f"{strict} --yes", env=api)
        assert (done.returncode, done.stderr) == (0, "")
        left.append("".join(node_id[-1] for (node_id,) in sql("SELECT node_id FROM workers ORDER BY 1")))
    assert left == ["123", "12", "2"]


@pytest.mark.parametrize("query", list(blocks("promql")))
def test_a_query_is_answered(addresses: Addresses, query: str) -> None:
    addresses.prometheus.query(query)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_page_has_all_its_parts(alert: object) -> None:
    name = getattr(alert, "name", "")
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", page, re.M) == SECTIONS
    first = page.split("## First 60 seconds")[1].split("## Meaning")[0]
    assert re.search(r"^```(sh|promql)\n", first, re.M)
    assert first.count("\n- ") >= 1
    diagnosis = page.split("## Diagnosis")[1].split("## Mitigation")[0]
    assert "```promql\n" in diagnosis


def test_there_is_a_page_for_nothing_else() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {alert.name for alert in ALERTS} | {"README"}


def test_the_metrics_that_they_name_exist() -> None:
    known = set(re.findall(r"\bamp_\w+", (ROOT / "docs" / "metrics.md").read_text() + RULES.read_text()))
    known |= {"amp_owner", "amp_worker", "amp_reader"}  # the database's roles
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "count", "sum")}
    for page in RUNBOOKS.glob("*.md"):
        named = set(re.findall(r"\b(?<![\w-])amp_\w+", page.read_text()))
        assert named <= known, page.name
