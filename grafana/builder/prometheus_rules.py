"""The rules for Prometheus: as a file, and as a resource of the Prometheus Operator."""

import re
from datetime import timedelta
from typing import Any

from grafana.builder import texts
from grafana.builder.alerts import ALERTS, Alert, Scope
from grafana.builder.durations import promql
from grafana.builder.links import Links
from grafana.builder.recording_rules import RECORDING_RULES
from grafana.builder.thresholds import EVALUATION_INTERVAL

SLOW_INTERVAL = timedelta(seconds=30)

_NAME = re.compile(r"[\w:]+")

_NO_FLEET = {Scope.ALERTING, Scope.ADMIN_API}
"""Scopes whose `job`, if there is one, is not that of a fleet, by which dashboards select."""


def prometheus_rules(links: Links) -> dict[str, Any]:
    """Return the content of grafana/rules/amp.yml.

    The recording rules are in the group of the alerts that use them: the rules of a group are evaluated one after the
    other for the same moment. Groups are evaluated at different moments.
    """
    recording = [{"record": rule.record, "expr": rule.expr} for rule in RECORDING_RULES]
    return {
        "groups": [
            {
                "name": "amp",
                "interval": promql(EVALUATION_INTERVAL),
                "rules": [*recording, *(_rule(alert, links) for alert in ALERTS if not alert.slow)],
            },
            {
                "name": "amp-slow",
                "interval": promql(SLOW_INTERVAL),
                "rules": [_rule(alert, links) for alert in ALERTS if alert.slow],
            },
        ]
    }


def prometheus_operator_rule(links: Links) -> dict[str, Any]:
    """Return the same rules as a resource of the Prometheus Operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "amp", "labels": {"app.kubernetes.io/part-of": "amp-worker-management"}},
        "spec": prometheus_rules(links),
    }


def _rule(alert: Alert, links: Links) -> dict[str, Any]:
    query = alert.query if _NAME.fullmatch(alert.query) else f"({alert.query})"
    rule: dict[str, Any] = {"alert": alert.name, "expr": f"{query} {alert.condition}"}
    if alert.pending:
        rule["for"] = promql(alert.pending)
    rule["labels"] = {"severity": str(alert.severity), "scope": str(alert.scope)}
    rule["annotations"] = annotations(alert, texts.prometheus, links)
    return rule


def annotations(alert: Alert, fill: texts.Fill, links: Links) -> dict[str, str]:
    """Return an alert's annotations, its texts filled for Prometheus or for Grafana."""
    variables = {}
    if alert.scope not in _NO_FLEET:
        variables["job"] = "{job}"
    if alert.scope == Scope.WORKER:
        variables["node_id"] = "{node_id}"
    return {
        "summary": fill(alert.summary),
        "description": fill(alert.description),
        "dashboard_url": fill(links.dashboard(alert.dashboard, **variables)),
        "runbook_url": links.runbook(alert.name),
    }
