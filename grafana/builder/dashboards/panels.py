"""What the panels of all dashboards have in common: data source, colours, legends, links."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from grafana.builder.links import WORKER_UID
from grafana.builder.thresholds import LOST_SECONDS, STALE_SECONDS

JOB = 'job="$job"'

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, ORANGE, RED, BLUE, GREY, PURPLE = "green", "orange", "red", "blue", "#808080", "purple"

STATE_COLOURS = {"active": GREEN, "stale": ORANGE, "lost": RED, "stopped": BLUE, "forgotten": GREY}

WORKER_LINK = f"/d/{WORKER_UID}?var-datasource=${{datasource}}&var-job=${{job}}&var-node_id="

NEEDS_ALL = (
    " Needs the exporter's --collector.workers=all: with unhealthy it shows only stale and lost workers, with none it "
    "is empty."
)
SICK_ARE_ENOUGH = " With --collector.workers=unhealthy it is the same; with none it is empty."

Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour; the first has no value."""

AGE_STEPS: Steps = (
    (None, RED),
    (-LOST_SECONDS, ORANGE),
    (-STALE_SECONDS, GREEN),
    (STALE_SECONDS, ORANGE),
    (LOST_SECONDS, RED),
)
"""The colour of a heartbeat's age. Negative ages are heartbeats from the future, which are no better."""

AnyPanel = TypeVar("AnyPanel", stat.Panel, timeseries.Panel, table.Panel, heatmap.Panel, statetimeline.Panel)


def query(expr: str, legend: str, ref_id: str = "A") -> prometheus.Dataquery:
    """Return a query over the dashboard's time range."""
    return prometheus.Dataquery().ref_id(ref_id).datasource(DATASOURCE).expr(expr).legend_format(legend).range()


def instant(expr: str, legend: str, ref_id: str = "A") -> prometheus.Dataquery:
    """Return a query of this moment alone."""
    return prometheus.Dataquery().ref_id(ref_id).datasource(DATASOURCE).expr(expr).legend_format(legend).instant()


def tabular(expr: str, ref_id: str = "A") -> prometheus.Dataquery:
    """Return a query of this moment, for a table: its labels become columns."""
    return instant(expr, "__auto", ref_id).format(prometheus_models.PromQueryFormat.TABLE)


def quantiles(buckets: str) -> list[prometheus.Dataquery]:
    """Return the queries for three quantiles of a histogram's buckets."""
    shares = ((0.5, "median", "A"), (0.9, "90 %", "B"), (0.99, "99 %", "C"))
    return [query(f"histogram_quantile({share}, {buckets})", legend, ref_id) for share, legend, ref_id in shares]


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=colour) for value, colour in steps])
    )


def by_thresholds() -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)


def fixed(colour: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})


def mapping(texts: Mapping[int, tuple[str, str]]) -> list[models.ValueMapping]:
    """Return words and colours for numbers."""
    return [
        models.ValueMap(
            options={
                str(number): models.ValueMappingResult(text=text, color=colour, index=index)
                for index, (number, (text, colour)) in enumerate(texts.items())
            }
        )
    ]


def _described(panel: AnyPanel, title: str, description: str, width: int, height: int) -> AnyPanel:
    return panel.title(title).description(description).datasource(DATASOURCE).span(width).height(height)


def stat_panel(
    title: str, description: str, *queries: prometheus.Dataquery, unit: str, width: int = 3, height: int = 4
) -> stat.Panel:
    panel = (
        _described(stat.Panel(), title, description, width, height)
        .unit(unit)
        .no_value("unknown")
        .color_scheme(by_thresholds())
        .thresholds(thresholds([(None, "text")]))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(common_models.BigValueTextMode.VALUE)
    )
    return _with(panel, queries)


def metadata_db_panel(width: int = 3) -> stat.Panel:
    return stat_panel(
        "Metadata DB",
        "Whether the metadata DB answers the exporter. If not, nothing is known of the workers.",
        instant(f"max(amp_metadata_db_up{{{JOB}}})", "metadata DB"),
        unit="bool_yes_no",
        width=width,
    ).thresholds(thresholds([(None, RED), (1, GREEN)]))


def exporters_panel(width: int = 3) -> stat.Panel:
    return stat_panel(
        "Exporters",
        "How many exporters of this fleet answer Prometheus.",
        instant(f"sum(up{{{JOB}}})", "exporters"),
        unit="none",
        width=width,
    ).thresholds(thresholds([(None, RED), (1, GREEN)]))


def timeseries_panel(
    title: str,
    description: str,
    *queries: prometheus.Dataquery,
    unit: str,
    width: int = 12,
    height: int = 8,
    signed: bool = False,
) -> timeseries.Panel:
    """Return a graph. signed: it has negative values too."""
    panel = (
        _described(timeseries.Panel(), title, description, width, height)
        .unit(unit)
        .axis_soft_min(0)
        .line_width(1)
        .fill_opacity(10)
        # A gap is a time of which nothing is known: it is shown, not bridged.
        .span_nulls(False)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.RIGHT)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    return _with(panel if signed else panel.min(0), queries)


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    return panel.fill_opacity(60).stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))


def thresholds_shown(panel: timeseries.Panel, steps: Steps = AGE_STEPS) -> timeseries.Panel:
    """Draw bounds into a graph."""
    return panel.thresholds(thresholds(steps)).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
    )


def timeline_panel(
    title: str,
    description: str,
    *queries: prometheus.Dataquery,
    texts: Mapping[int, tuple[str, str]] | None = None,
    steps: Steps = AGE_STEPS,
    unit: str,
    width: int = 12,
    height: int = 8,
) -> statetimeline.Panel:
    """Return a state timeline, coloured by words for its numbers or by thresholds."""
    panel = (
        _described(statetimeline.Panel(), title, description, width, height)
        .unit(unit)
        .color_scheme(by_thresholds())
        .thresholds(thresholds(steps))
        .show_value(common_models.VisibilityMode.NEVER)
        .merge_values(True)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
    )
    if texts is not None:
        panel = panel.mappings(mapping(texts))
    return _with(panel, queries)


def heatmap_panel(
    title: str, description: str, buckets: prometheus.Dataquery, width: int = 12, height: int = 9
) -> heatmap.Panel:
    """Return a heatmap of a histogram's buckets, in seconds."""
    panel = (
        _described(heatmap.Panel(), title, description, width, height)
        .unit("s")
        .calculate(False)
        .color(heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .y_axis(heatmap.YAxisConfig().unit("s").axis_label("at most so old"))
        .cell_values(heatmap.CellValues().unit("short"))
        .show_legend()
    )
    return panel.with_target(buckets.format(prometheus_models.PromQueryFormat.HEATMAP))


def table_panel(
    title: str, description: str, *queries: prometheus.Dataquery, unit: str, width: int = 12, height: int = 8
) -> table.Panel:
    panel = (
        _described(table.Panel(), title, description, width, height)
        .unit(unit)
        .filterable(True)
        .override_by_name("Worker", [_worker_link()])
    )
    return _with(panel, queries)


def columns(panel: table.Panel, names: Mapping[str, str]) -> table.Panel:
    """Join a table's queries on node_id, and show these fields under these names, in this order."""
    return panel.with_transformation(
        models.DataTransformerConfig(id_val="joinByField", options={"byField": "node_id", "mode": "outer"})
    ).with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "includeByName": dict.fromkeys(names, True),
                "indexByName": {name: index for index, name in enumerate(names)},
                "renameByName": dict(names),
            },
        )
    )


def column(unit: str, width: int | None = None) -> list[models.DynamicConfigValue]:
    """Return the look of a column."""
    made = [models.DynamicConfigValue(id_val="unit", value=unit)]
    if width is not None:
        made.append(models.DynamicConfigValue(id_val="custom.width", value=width))
    return made


def age_column() -> list[models.DynamicConfigValue]:
    return [
        *column("s", 120),
        models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
        models.DynamicConfigValue(id_val="color", value={"mode": "thresholds"}),
        models.DynamicConfigValue(
            id_val="thresholds",
            value={"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in AGE_STEPS]},
        ),
    ]


def descending(name: str) -> common.TableSortByFieldState:
    return common.TableSortByFieldState().display_name(name).desc(True)


def _worker_link() -> models.DynamicConfigValue:
    return models.DynamicConfigValue(
        id_val="links", value=[{"title": "This worker", "url": WORKER_LINK + "${__value.text}&${__url_time_range}"}]
    )


def _with(panel: AnyPanel, queries: Sequence[cog.Builder[prometheus_models.Dataquery]]) -> AnyPanel:
    for target in queries:
        panel = panel.with_target(target)
    return panel
