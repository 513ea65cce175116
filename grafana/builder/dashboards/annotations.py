"""Marks on every graph of a dashboard."""

from typing import Any

from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.models import dashboard as models

from grafana.builder.dashboards.panels import BLUE, DATASOURCE, RED


def restarts(registered: str, text: str) -> "Annotation":
    """Return a blue mark at each restart. registered: a query for the Unix time of the last one."""
    return Annotation("Restarts", f"{registered} * 1000", text, BLUE)


def alerts(selector: str) -> "Annotation":
    """Return a red mark where each alert began that fired. The region in which it fired would cover the graphs."""
    firing = f'ALERTS{{alertname=~"Amp.+", alertstate="firing", {selector}}}'
    began = f'ALERTS_FOR_STATE{{alertname=~"Amp.+", {selector}}} * 1000\nand ignoring (alertstate) {firing}'
    return Annotation("Alerts", began, "{{alertname}} began", RED)


class Annotation(cog.Builder[models.AnnotationQuery]):
    """Marks at the times in milliseconds that are the values of a query."""

    def __init__(self, name: str, expr: str, text: str, colour: str) -> None:
        self._built = _PrometheusAnnotation(name, DATASOURCE, icon_color=colour, expr=expr, built_in=None, hide=None)
        # With longer steps, alerts that fire for a shorter time, and all but the last of some restarts, have no mark.
        self._built.of_prometheus = {"textFormat": text, "titleFormat": name, "useValueForTime": True, "step": "5s"}

    def build(self) -> models.AnnotationQuery:
        return self._built


class _PrometheusAnnotation(models.AnnotationQuery):
    """With the fields that Grafana's Prometheus data source adds, which the SDK does not know."""

    of_prometheus: dict[str, Any]

    def to_json(self) -> dict[str, object]:
        return super().to_json() | self.of_prometheus
