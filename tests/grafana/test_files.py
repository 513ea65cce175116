"""The committed files: up to date with the builder, complete, and accepted by Grafana."""

import json
import re
import sys
from itertools import combinations
from typing import Any

import pytest
import yaml

from grafana.builder.alerts import ALERTS
from grafana.builder.files import ROOT, files
from grafana.builder.links import Links
from tests.processes import run, tool

GRAFANA = ROOT / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in DASHBOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
each_dashboard = pytest.mark.parametrize("name", DASHBOARDS)
each_panel = pytest.mark.parametrize("panel", PANELS)
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)

Json = dict[str, Any]


FILES = files(Links())


@pytest.mark.parametrize("path", FILES)
def test_the_committed_file_is_what_the_builder_makes(path: str) -> None:
    assert (ROOT / path).read_text() == FILES[path], "run: .venv/bin/python -m grafana.builder"


def test_the_addresses_of_grafana_and_of_the_runbooks_are_settings() -> None:
    made = files(Links("https://grafana.example.org", "https://wiki.example.org/{alert}"))
    for path in ("grafana/rules/amp.yml", "grafana/provisioning/alerting/amp.yml"):
        assert "https://grafana.example.org/d/amp-worker?var-job=" in made[path]
        assert "https://wiki.example.org/AmpWorkerLost\n" in made[path]
    assert "https://wiki.example.org/${__value.text}" in made["grafana/dashboards/fleet.json"]
    assert not [path for path, text in made.items() if path.startswith("grafana/") and "localhost" in text]


def test_the_builder_refuses_a_runbook_url_without_the_alert() -> None:
    refused = run(sys.executable, "-m", "grafana.builder", "--runbook-url", "https://wiki.example.org", cwd=ROOT)
    assert refused.returncode == 2
    assert "no {alert} in it" in refused.stderr


def test_the_page_of_runbooks_has_an_anchor_for_each_alert_and_no_link_leads_nowhere() -> None:
    page = (ROOT / "docs" / "runbooks" / "index.html").read_text()
    anchors = re.findall(r' id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    links = re.findall(r'href="([^"]+)"', page)
    assert {link.removeprefix("#") for link in links if "://" not in link} <= set(anchors)
    assert {alert.name for alert in ALERTS} <= set(anchors)


def test_no_other_file_is_among_them() -> None:
    """Grafana would still provision a dashboard that is no longer generated."""
    made = {"dashboards/*.json", "rules/*.yml", "provisioning/alerting/*"}
    found = {str(path.relative_to(ROOT)) for pattern in made for path in GRAFANA.glob(pattern)}
    assert found == {path for path in FILES if path.startswith("grafana/")}


@each_dashboard
def test_a_dashboard_has_tags_and_links(name: str) -> None:
    board = DASHBOARDS[name]
    assert board["tags"] == ["amp"]
    assert board["uid"] == f"amp-{name}"
    (link,) = board["links"]
    assert link["type"] == "dashboards"
    assert link["tags"] == ["amp"]
    assert link["includeVars"]


@each_dashboard
def test_a_dashboard_has_its_variables(name: str) -> None:
    variables = {variable["name"]: variable for variable in DASHBOARDS[name]["templating"]["list"]}
    assert {"datasource", "job"} <= variables.keys()
    assert variables["datasource"]["type"] == "datasource"
    assert variables["job"]["datasource"]["uid"] == "${datasource}"
    assert ("node_id" in variables) == (name == "worker")


@each_dashboard
def test_no_data_source_is_fixed(name: str) -> None:
    assert _values(DASHBOARDS[name], "datasource") == [{"type": "prometheus", "uid": "${datasource}"}]


@each_dashboard
def test_panels_do_not_overlap(name: str) -> None:
    def covers(panel: Json) -> tuple[range, range]:
        at = panel["gridPos"]
        return range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])

    panels = DASHBOARDS[name]["panels"]
    for one, other in combinations(panels, 2):
        (x1, y1), (x2, y2) = covers(one), covers(other)
        overlap = max(x1.start, x2.start) < min(x1.stop, x2.stop) and max(y1.start, y2.start) < min(y1.stop, y2.stop)
        assert not overlap, (one["title"], other["title"])
    assert all(covers(panel)[0].stop <= 24 for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)


@each_panel
def test_a_panel_explains_itself(panel: Json) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["expr"]
        assert re.search(r'job(="|=~"\$job\|)(admin-)?\$job"', target["expr"])


@each_panel
def test_a_panel_has_no_conflicting_mappings_and_thresholds(panel: Json) -> None:
    """A state timeline that merges values by thresholds ignores its mappings."""
    defaults = panel["fieldConfig"]["defaults"]
    configurations = [defaults]
    for override in panel["fieldConfig"].get("overrides", []):
        own = {each["id"]: each["value"] for each in override["properties"]}
        configurations.append(defaults | own if "mappings" in own else own)
    for configuration in configurations:
        if configuration.get("mappings"):
            assert configuration["color"]["mode"] == "fixed"
            assert len(configuration.get("thresholds", {"steps": []})["steps"]) <= 1


@each_panel
def test_an_unknown_value_has_a_neutral_colour(panel: Json) -> None:
    """An absent value gets the colour of the first threshold."""
    for steps in _values(panel, "steps"):
        if panel["type"] == "stat" and isinstance(steps, list):
            assert steps[0]["color"] == "text"


@each_panel
def test_a_panel_of_single_workers_says_what_it_needs(panel: Json) -> None:
    """Panels of the fleet use the fleet's families. The others state what they show with fewer series."""
    single = any("amp_worker_" in target["expr"] for target in panel["targets"])
    assert single == ("--collector.workers" in panel["description"])


@each_alert
def test_an_alert_has_links(alert: Any) -> None:
    rules = yaml.safe_load((GRAFANA / "rules" / "amp.yml").read_text())
    (rule,) = [rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == alert.name]
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "dashboard_url", "runbook_url"}
    assert annotations["runbook_url"] == f"http://localhost:3000/public/runbooks/index.html#{alert.name}"
    uid = annotations["dashboard_url"].split("/d/")[1].split("?")[0]
    (board,) = [board for board in DASHBOARDS.values() if board["uid"] == uid]
    variables = {variable["name"] for variable in board["templating"]["list"]}
    query = annotations["dashboard_url"].partition("?")[2]
    assert {part.split("=")[0].removeprefix("var-") for part in query.split("&") if part} <= variables


@each_alert
def test_grafana_has_the_same_alert(alert: Any) -> None:
    provisioned = yaml.safe_load((GRAFANA / "provisioning" / "alerting" / "amp.yml").read_text())
    (rule,) = [rule for group in provisioned["groups"] for rule in group["rules"] if rule["title"] == alert.name]
    rules = yaml.safe_load((GRAFANA / "rules" / "amp.yml").read_text())
    (peer,) = [rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == alert.name]
    query, threshold = rule["data"]
    (condition,) = threshold["model"]["conditions"]
    operator = {"gt": ">", "lt": "<"}[condition["evaluator"]["type"]]
    bare = peer["expr"].removeprefix("(")
    assert bare.startswith(query["model"]["expr"])
    assert peer["expr"].endswith(f"{operator} {condition['evaluator']['params'][0]:g}")
    assert rule["condition"] == threshold["refId"]
    assert threshold["model"]["expression"] == query["refId"]
    assert rule["labels"] == peer["labels"]
    assert rule["for"] == peer.get("for", "0s")
    assert rule["annotations"].keys() == peer["annotations"].keys()
    # Grafana expands environment variables in provisioned queries, at each dollar sign, but not in annotations.
    assert "$" not in query["model"]["expr"]
    assert len(rule["uid"]) <= 40
    for text in rule["annotations"].values():
        assert "$value " not in text


def test_grafana_alerts_find_their_data_source() -> None:
    provisioned = yaml.safe_load((GRAFANA / "provisioning" / "alerting" / "amp.yml").read_text())
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "amp.yml").read_text())["datasources"]
    assert set(_values(provisioned, "datasourceUid")) == {source["uid"], "__expr__"}


def test_amtool_accepts_the_configuration() -> None:
    checked = run(tool("amtool"), "check-config", str(GRAFANA / "alertmanager.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("label", "receiver"),
    [("severity=critical", "pager"), ("severity=warning", "chat"), ("alertname=AmpWatchdog", "watchdog")],
)
def test_alerts_are_routed(label: str, receiver: str) -> None:
    configuration = f"--config.file={GRAFANA / 'alertmanager.yml'}"
    routed = run(tool("amtool"), "config", "routes", "test", configuration, label)
    assert routed.stdout.strip() == receiver


def test_what_is_inhibited_exists() -> None:
    names = {alert.name for alert in ALERTS}
    scopes = {str(alert.scope) for alert in ALERTS}
    rules = yaml.safe_load((GRAFANA / "alertmanager.yml").read_text())["inhibit_rules"]
    for rule in rules:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, wanted = matcher.replace("=~", "=").split("=")
            known = {"alertname": names, "scope": scopes}[label.strip()]
            assert set(wanted.strip().strip('"').split("|")) <= known


def _values(node: Any, key: str) -> list[Any]:
    """Return the distinct values of a key, anywhere in a document."""
    found: list[Any] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            for name, value in part.items():
                if name == key and value not in found:
                    found.append(value)
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(node)
    return found
