"""All files that are made, by their path in the checkout."""

import json
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.builder.dashboards import exporter_dashboard, fleet_dashboard, worker_dashboard
from grafana.builder.documentation import alerts_page
from grafana.builder.grafana_rules import grafana_rules
from grafana.builder.links import Links
from grafana.builder.prometheus_rules import prometheus_operator_rule, prometheus_rules
from grafana.builder.runbooks import runbooks_page

ROOT = Path(__file__).resolve().parents[2]

_MADE = "# Made by python -m grafana.builder: change the source there, not this file.\n"


def files(links: Links) -> dict[str, str]:
    """Return the text of each file."""
    return {
        "grafana/dashboards/fleet.json": _dashboard(fleet_dashboard(links)),
        "grafana/dashboards/worker.json": _dashboard(worker_dashboard(links)),
        "grafana/dashboards/exporter.json": _dashboard(exporter_dashboard()),
        "grafana/rules/amp.yml": _MADE + _yaml(prometheus_rules(links)),
        "deploy/kubernetes/components/prometheus-rule/prometheus-rule.yaml": _MADE
        + _yaml(prometheus_operator_rule(links)),
        "grafana/provisioning/alerting/amp.yml": _MADE + _yaml(grafana_rules(links)),
        "docs/runbooks/index.html": runbooks_page(ROOT / "docs" / "runbooks"),
        "docs/alerts.md": alerts_page((ROOT / "docs" / "alerts.md").read_text()),
    }


def _dashboard(board: Dashboard) -> str:
    built = board.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = panel.id_val or number
    return json.dumps(built, cls=JSONEncoder, indent=2) + "\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
