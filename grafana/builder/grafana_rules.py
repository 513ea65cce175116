"""The same alerts as Grafana-managed ones, in Grafana's own provisioning format.

They query the recording rules of grafana/rules/amp.yml, which Prometheus has to load for them too.
"""

from typing import Any

from grafana.builder import texts
from grafana.builder.alerts import ALERTS, Alert
from grafana.builder.durations import promql
from grafana.builder.links import Links
from grafana.builder.prometheus_rules import SLOW_INTERVAL, annotations

DATASOURCE_UID = "amp-prometheus"
"""Of grafana/provisioning/datasources/amp.yml: Grafana takes no variable for it here."""

INTERVAL = "10s"
"""The shortest that Grafana allows, if its administrator did not change min_interval."""

_WINDOW_SECONDS = 600


def grafana_rules(links: Links) -> dict[str, Any]:
    """Return the content of grafana/provisioning/alerting/amp.yml."""
    return {
        "apiVersion": 1,
        "groups": [
            _group("amp", INTERVAL, [alert for alert in ALERTS if not alert.slow], links),
            _group("amp-slow", promql(SLOW_INTERVAL), [alert for alert in ALERTS if alert.slow], links),
        ],
    }


def _group(name: str, interval: str, alerts: list[Alert], links: Links) -> dict[str, Any]:
    return {
        "orgId": 1,
        "name": name,
        "folder": "Amp",
        "interval": interval,
        "rules": [_rule(alert, links) for alert in alerts],
    }


def _rule(alert: Alert, links: Links) -> dict[str, Any]:
    query = {
        "refId": "A",
        "relativeTimeRange": {"from": _WINDOW_SECONDS, "to": 0},
        "datasourceUid": DATASOURCE_UID,
        "model": {"refId": "A", "expr": alert.query, "instant": True, "range": False},
    }
    evaluator = (
        {"type": "gt", "params": [alert.above]} if alert.above is not None else {"type": "lt", "params": [alert.below]}
    )
    threshold = {
        "refId": "B",
        "datasourceUid": "__expr__",
        "model": {"refId": "B", "type": "threshold", "expression": "A", "conditions": [{"evaluator": evaluator}]},
    }
    return {
        # Of at most 40 characters, and the same after every build, so that Grafana updates its rules in place.
        "uid": alert.name,
        "title": alert.name,
        "condition": "B",
        "data": [query, threshold],
        # Without a series, no worker is silent. AmpExporterDown fires where the state is unknown.
        "noDataState": "OK",
        # While Prometheus itself does not answer, no alert fires, and none resolves.
        "execErrState": "Error" if alert.name == "AmpExporterDown" else "KeepLast",
        "for": promql(alert.pending),
        "labels": {"severity": str(alert.severity), "scope": str(alert.scope)},
        "annotations": annotations(alert, texts.grafana, links),
    }
