"""What is around the panels: variables, links from dashboard to dashboard, time range."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from grafana.builder.dashboards.panels import DATASOURCE

TAG = "amp"


def framed(title: str, uid: str, description: str) -> dashboard.Dashboard:
    """Return a dashboard with nothing on it yet."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("10s")
        .timepicker(dashboard.TimePicker().refresh_intervals(["5s", "10s", "30s", "1m", "5m"]))
        .timezone("browser")
        .link(
            dashboard.DashboardLink("Amp")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(query_variable("job", "Fleet", "label_values(amp_metadata_db_up, job)"))
    )


def query_variable(name: str, label: str, expr: str) -> dashboard.QueryVariable:
    """Return a variable of one value out of those that Prometheus has."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": expr, "refId": name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .multi(False)
        .include_all(False)
    )
