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

JOB = 'job="$job"'
ADMIN = 'job="admin-$job"'
JOB_AND_ADMIN = 'job=~"$job|admin-$job"'

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, ORANGE, RED, DARK_RED, BLUE, GREY, PURPLE = "green", "orange", "red", "dark-red", "blue", "#808080", "purple"

NEUTRAL = "text"
"""The colour of what is unknown. It is the first step of all thresholds, which an absent value gets."""

STATE_COLOURS = {
    "active": GREEN,
    "stuck": PURPLE,
    "stale": ORANGE,
    "lost": RED,
    "failed": DARK_RED,
    "stopped": BLUE,
    "forgotten": GREY,
}

WORKER_LINK = f"/d/{WORKER_UID}?var-datasource=${{datasource}}&var-job=${{job}}&var-node_id="

NEEDS_ALL = (
    " Needs the exporter's --collector.workers=all: with unhealthy it shows only stuck, stale, lost and failed "
    "workers, with none it is empty."
)
UNHEALTHY_ARE_ENOUGH = " With the exporter's --collector.workers=unhealthy it is the same; with none it is empty."

SECONDS = "suffix:s"
"""The unit of a graph of ages, whose axis has round numbers of seconds. Of the unit `s`, a tick would be 1.67 min."""

PER_MINUTE = "suffix:/min"

Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour; the first has no value."""

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
        .thresholds(thresholds([(None, NEUTRAL)]))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(common_models.BigValueTextMode.VALUE)
    )
    return _with(panel, queries)


def metadata_db_panel(width: int = 3) -> stat.Panel:
    panel = stat_panel(
        "Metadata DB",
        "Whether the metadata DB answers the exporter. If not, nothing is known of the workers.",
        instant(f"max(amp_metadata_db_up{{{JOB}}})", "metadata DB"),
        unit="none",
        width=width,
    )
    return mapped(panel, {0: ("unavailable", RED), 1: ("available", GREEN)})


def targets_panel(title: str, description: str, job: str, width: int = 3) -> stat.Panel:
    """Return how many targets of a scrape job answer Prometheus, of how many. job: the job's selector."""
    up = f"up{{{job}}}"
    # The value is the share that answers; a label has the text, since a unit cannot show two numbers.
    share = (
        f"(sum({up}) / count({up}))\n"
        f'* on () group_left (up) count_values("up", sum({up})) ^ 0\n'
        f'* on () group_left (all) count_values("all", count({up})) ^ 0'
    )
    panel = stat_panel(
        title,
        description,
        instant(or_unknown(f'label_join({share}, "text", " of ", "up", "all")', "text"), "{{text}}"),
        unit="none",
        width=width,
    )
    steps: Steps = [(None, NEUTRAL), (0, RED), (0.001, ORANGE), (1, GREEN)]
    return panel.thresholds(thresholds(steps)).text_mode(common_models.BigValueTextMode.NAME)


def exporters_panel(width: int = 3) -> stat.Panel:
    return targets_panel("Exporters", "How many exporters of this fleet answer Prometheus, of how many.", JOB, width)


def or_unknown(expr: str, label: str) -> str:
    """Return a query whose label has the text `unknown`, at the value -1, where the given query has no series.

    A stat panel that shows names ignores `no_value`, and would be empty.
    """
    return f'{expr}\nor on () label_replace(vector(-1), "{label}", "unknown", "", "")'


def of_one_exporter(series: str) -> str:
    """Return a family as one exporter reports it: the numbers of two exporters, scraped apart, do not add up.

    It is the exporter that has been running for longest. Of equal values, topk() selects any.
    """
    oldest = f"bottomk(1, process_start_time_seconds{{{JOB}}} and on (instance) amp_metadata_db_up{{{JOB}}} == 1)"
    return f"({series} and on (instance) {oldest})"


def threshold(name: str) -> str:
    """Return a threshold of the states as a scalar: NaN, which no comparison holds for, where it is not published."""
    return f'scalar(max(amp_exporter_threshold_seconds{{{JOB}, threshold="{name}"}}))'


RANKS = {6: "failed", 5: "lost", 4: "stale", 3: "stuck", 2: "active", 1: "stopped"}
"""The states of single workers as numbers, worst first."""


def state_of(selector: str) -> str:
    """Return a query for the state of each worker as a number of RANKS; without a series where it is unknown."""
    age = f"min by (node_id) (abs(amp_worker_heartbeat_age_seconds{{{selector}}}))"
    stopped = f"max by (node_id) (amp_worker_stopped_timestamp_seconds{{{selector}}})"
    return (
        f"6 * max by (node_id) (amp_worker_failed{{{selector}}})\n"
        f"or 1 * {stopped} ^ 0\n"
        f"or 5 * ({age} > {threshold('lost')}) ^ 0\n"
        f"or 4 * ({age} > {threshold('stale')}) ^ 0\n"
        f"or 3 * max by (node_id) (amp_worker_stuck{{{selector}}})\n"
        f"or 2 * ({age} <= {threshold('stale')}) ^ 0"
    )


STATE_TEXTS = {number: (state, STATE_COLOURS[state]) for number, state in RANKS.items()}


def mapped(panel: AnyPanel, texts: Mapping[int, tuple[str, str]]) -> AnyPanel:
    """Show words with colours for numbers.

    Thresholds must not compete with them: a state timeline that merges values by thresholds ignores the mappings.
    """
    colour = dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(NEUTRAL)
    return panel.mappings(mapping(texts)).color_scheme(colour).thresholds(thresholds([(None, NEUTRAL)]))


def timeseries_panel(
    title: str,
    description: str,
    *queries: prometheus.Dataquery,
    unit: str,
    width: int = 12,
    height: int = 8,
    signed: bool = False,
    soft_max: float = 1,
) -> timeseries.Panel:
    """Return a graph. signed: it has negative values too; soft_max: where the axis ends, unless a value is larger."""
    panel = (
        _described(timeseries.Panel(), title, description, width, height)
        .unit(unit)
        .axis_soft_min(0)
        .axis_soft_max(soft_max)
        .line_width(1)
        .fill_opacity(10)
        # A gap is a time of which nothing is known: it is shown, not bridged.
        .span_nulls(False)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"] if width >= 12 else ["lastNotNull"])
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


def with_bounds(panel: timeseries.Panel, bounds: Mapping[str, str]) -> timeseries.Panel:
    """Draw the series with these legends as dashed lines of these colours."""
    for legend, colour in bounds.items():
        panel = panel.override_by_name(
            legend,
            [
                fixed(colour),
                models.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 8]}),
                models.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
            ],
        )
    return panel


AGE_BOUNDS = {"stale": ORANGE, "lost": RED}


def age_bounds(where: str = "") -> prometheus.Dataquery:
    """Return the query for the thresholds of a heartbeat's age, which `with_bounds` draws as AGE_BOUNDS.

    where: a condition that follows, without which a graph of no worker would have these lines alone.
    """
    family = f'amp_exporter_threshold_seconds{{{JOB}, threshold=~"stale|lost"}}'
    return query(f"max by (threshold) ({family}){where}", "{{threshold}}", "B")


def thresholds_shown(panel: timeseries.Panel, value: float) -> timeseries.Panel:
    """Draw a fixed threshold of an alert into a graph."""
    return panel.thresholds(thresholds([(None, GREEN), (value, RED)])).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
    )


def timeline_panel(
    title: str,
    description: str,
    *queries: prometheus.Dataquery,
    texts: Mapping[int, tuple[str, str]],
    width: int = 12,
    height: int = 8,
) -> statetimeline.Panel:
    """Return a state timeline, with words and colours for its numbers."""
    panel = (
        _described(statetimeline.Panel(), title, description, width, height)
        .unit("none")
        .show_value(common_models.VisibilityMode.NEVER)
        .merge_values(True)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
    )
    return _with(mapped(panel, texts), queries)


def heatmap_panel(
    title: str, description: str, buckets: prometheus.Dataquery, width: int = 12, height: int = 9
) -> heatmap.Panel:
    """Return a heatmap of a histogram's buckets, in seconds."""
    panel = (
        _described(heatmap.Panel(), title, description, width, height)
        .unit("s")
        .calculate(False)
        .color(heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .y_axis(heatmap.YAxisConfig().unit("s").axis_label("heartbeat age, at most"))
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


def columns(panel: table.Panel, names: Mapping[str, str], *, join: bool = True) -> table.Panel:
    """Show these fields of a table under these names, in this order; join: the table's queries, on node_id."""
    if join:
        by_node_id = {"byField": "node_id", "mode": "outer"}
        panel = panel.with_transformation(models.DataTransformerConfig(id_val="joinByField", options=by_node_id))
    return panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "includeByName": dict.fromkeys(names, True),
                "indexByName": {name: index for index, name in enumerate(names)},
                "renameByName": dict(names),
            },
        )
    )


def column(unit: str, width: int) -> list[models.DynamicConfigValue]:
    """Return the look of a column."""
    return [
        models.DynamicConfigValue(id_val="unit", value=unit),
        models.DynamicConfigValue(id_val="custom.width", value=width),
        # An empty cell would show the text of a table without rows.
        models.DynamicConfigValue(id_val="noValue", value="-"),
    ]


def alert_column(runbook_url: str) -> list[models.DynamicConfigValue]:
    """Return the look of a column of alerts, which lead to their runbooks."""
    return [
        models.DynamicConfigValue(id_val="custom.minWidth", value=240),
        models.DynamicConfigValue(
            id_val="links", value=[{"title": "Runbook", "url": runbook_url, "targetBlank": True}]
        ),
    ]


def state_column() -> list[models.DynamicConfigValue]:
    """Return the look of a column whose values are numbers of RANKS, minus a part of one that orders equal states."""
    mappings = [
        models.RangeMap(
            options=models.DashboardRangeMapOptions(
                from_val=number - 1 + 1e-9, to=number, result=models.ValueMappingResult(text=text, color=colour)
            )
        )
        for number, (text, colour) in STATE_TEXTS.items()
    ]
    return [
        models.DynamicConfigValue(id_val="custom.width", value=90),
        models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
        models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": NEUTRAL}),
        models.DynamicConfigValue(id_val="mappings", value=mappings),
    ]


def ascending(name: str) -> common.TableSortByFieldState:
    return common.TableSortByFieldState().display_name(name).desc(False)


def descending(name: str) -> common.TableSortByFieldState:
    return common.TableSortByFieldState().display_name(name).desc(True)


def _worker_link() -> models.DynamicConfigValue:
    return models.DynamicConfigValue(
        id_val="links", value=[{"title": "This worker", "url": WORKER_LINK + "${__value.text}&${__url_time_range}"}]
    )


def linked_to_workers(panel: AnyPanel) -> AnyPanel:
    """Let each series, which has the label `node_id`, lead to the dashboard of its worker."""
    return linked(panel, "This worker", WORKER_LINK + "${__field.labels.node_id}&${__url_time_range}")


def linked(panel: AnyPanel, title: str, url: str) -> AnyPanel:
    return panel.data_links([dashboard.DashboardLink(title).url(url)])


def _with(panel: AnyPanel, queries: Sequence[cog.Builder[prometheus_models.Dataquery]]) -> AnyPanel:
    for target in queries:
        panel = panel.with_target(target)
    return panel
