"""Marks on every graph of a dashboard."""

from typing import Any

from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.models import dashboard as models

from grafana.builder.dashboards.panels import DATASOURCE


class Annotation(cog.Builder[models.AnnotationQuery]):
    """A mark wherever a query has a value or, with `value_is_time`, at the time in milliseconds that its value is."""

    def __init__(self, name: str, expr: str, text: str, colour: str, value_is_time: bool = False) -> None:
        self._built = _PrometheusAnnotation(name, DATASOURCE, icon_color=colour, expr=expr, built_in=None, hide=None)
        self._built.of_prometheus = {
            "textFormat": text,
            "titleFormat": name,
            "useValueForTime": value_is_time,
            "step": "5s",
        }

    def build(self) -> models.AnnotationQuery:
        return self._built


class _PrometheusAnnotation(models.AnnotationQuery):
    """With the fields that Grafana's Prometheus data source adds, which the SDK does not know."""

    of_prometheus: dict[str, Any]

    def to_json(self) -> dict[str, object]:
        return super().to_json() | self.of_prometheus
