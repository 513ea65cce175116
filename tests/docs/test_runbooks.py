"""The runbooks: one per alert, with the same sections. Everything that they name exists."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from grafana.builder.alerts import ALERTS
from tests.conftest import Insert, Witnessed
from tests.docs.pages import RUNBOOKS
from tests.processes import ROOT, Processes, eventually, get, run

SECTIONS = ["First 60 seconds", "Meaning", "Impact", "Diagnosis", "Mitigation"]
RULES = ROOT / "grafana" / "rules" / "amp.yml"


@pytest.mark.slow
def test_workers_are_removed_as_the_pages_say(
    processes: Processes,
    database: str,
    sql: Callable[..., list[Any]],
    insert_worker: Insert,
    unused_port: int,
    witnessed: Witnessed,
) -> None:
    """Workers are removed through the Admin API, which refuses some of them, and never with SQL."""
    pages = "".join(page.read_text() for page in [*sorted(RUNBOOKS.glob("*.md")), ROOT / "docs" / "operations.md"])
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
    assert left == ["123", "12", "2", "2"]


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


def test_the_units_that_they_name_are_shipped() -> None:
    units = {unit.stem for unit in (ROOT / "deploy" / "systemd").glob("*.service")}
    pages = "".join(page.read_text() for page in RUNBOOKS.glob("*.md"))
    commands = re.findall(r"(?:systemctl [a-z]+|journalctl -u) (amp[\w-]*@?)", pages)
    assert len(commands) > 10
    assert set(commands) <= units
    assert not re.search(r"\bampd-(worker|exporter|admin)", pages)


def test_the_labels_and_workloads_that_they_name_are_shipped() -> None:
    files = (ROOT / "deploy" / "kubernetes").rglob("*.yaml")
    objects = [each for file in files for each in yaml.safe_load_all(file.read_text()) if each and "metadata" in each]
    workloads = {f"{each['kind'].lower()}/{each['metadata'].get('name')}" for each in objects}
    labels = {f"{name}={value}" for each in objects for name, value in each["metadata"].get("labels", {}).items()}
    pages = "".join(page.read_text() for page in RUNBOOKS.glob("*.md"))
    named = re.findall(r"\b(?:deployment|statefulset|daemonset)/[\w-]+", pages)
    assert named
    assert set(named) <= workloads
    selected = re.findall(r"kubectl [^;\n]* -l (\S+?);?(?:\s|$)", pages)
    assert selected
    assert set(selected) <= labels


def test_there_is_no_page_without_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {alert.name for alert in ALERTS} | {"README"}


def test_the_metrics_that_they_name_exist() -> None:
    known = set(re.findall(r"\bamp_\w+", (ROOT / "docs" / "metrics.md").read_text() + RULES.read_text()))
    known |= {"amp_owner", "amp_worker", "amp_reader"}  # the roles of the database
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "count", "sum")}
    for page in RUNBOOKS.glob("*.md"):
        named = set(re.findall(r"\b(?<![\w-])amp_\w+", page.read_text()))
        assert named <= known, page.name
