"""The programs that observe the fleet: the exporter, the metadata DB as the exporter sees it, and the Admin API."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana.builder.dashboards.annotations import alerts, restarts
from grafana.builder.dashboards.frame import framed
from grafana.builder.dashboards.panels import (
    ADMIN,
    GREEN,
    JOB,
    JOB_AND_ADMIN,
    PER_MINUTE,
    RED,
    exporters_panel,
    instant,
    mapped,
    metadata_db_panel,
    of_one_exporter,
    or_unknown,
    quantiles,
    query,
    stat_panel,
    targets_panel,
    thresholds_shown,
    timeline_panel,
    timeseries_panel,
)
from grafana.builder.links import EXPORTER_UID
from grafana.builder.thresholds import LAGGING_SECONDS, SLOW_SECONDS

_AVAILABILITY = {0: ("unavailable", RED), 1: ("available", GREEN)}
_NO_ADMIN = "No Admin API of this fleet is scraped: its scrape job would be the fleet's, with admin- before it"


def exporter_dashboard() -> dashboard.Dashboard:
    board = (
        framed(
            "Amp / Exporter, metadata DB, Admin API",
            EXPORTER_UID,
            "Whether the other dashboards can be trusted: the exporter, the metadata DB as it sees it, and the Admin "
            "API.",
        )
        .annotation(alerts(f'scope=~"exporter|metadata_db|admin_api", {JOB_AND_ADMIN}'))
        .annotation(
            restarts(
                f"max by (job, instance) (process_start_time_seconds{{{JOB_AND_ADMIN}}})",
                "{{job}} {{instance}} started",
            )
        )
    )
    return _resources(_admin(_scrapes(_now(board))))


def _now(board: dashboard.Dashboard) -> dashboard.Dashboard:
    board = (
        board.with_row(dashboard.Row("Now"))
        .with_panel(metadata_db_panel(width=4))
        .with_panel(exporters_panel(width=4))
        .with_panel(
            targets_panel(
                "Admin APIs",
                "How many Admin APIs of this fleet answer Prometheus, of how many. Their scrape job has the fleet's "
                "name, with admin- before it.",
                ADMIN,
                width=4,
            )
        )
        .with_panel(
            mapped(
                stat_panel(
                    "Web configuration",
                    "Whether the web configuration files of the exporters and Admin APIs can be used as they are now. "
                    "If not, the settings that were read before stay in use.",
                    instant(f"min(amp_web_config_last_reload_successful{{{JOB_AND_ADMIN}}})", "valid"),
                    unit="none",
                    width=4,
                ),
                {0: ("invalid", RED), 1: ("valid", GREEN)},
            )
        )
    )
    return board.with_panel(
        stat_panel(
            "Exporter's version",
            "The version of the exporter itself.",
            instant(or_unknown(f"max by (version) (amp_exporter_build_info{{{JOB}}})", "version"), "{{version}}"),
            unit="none",
            width=8,
        ).text_mode(BigValueTextMode.NAME)
    )


def _scrapes(board: dashboard.Dashboard) -> dashboard.Dashboard:
    duration = "amp_exporter_query_duration_seconds"
    buckets = f"sum by (le) (rate({duration}_bucket{{{JOB}}}[$__rate_interval]))"
    return (
        board.with_row(dashboard.Row("Exporter and metadata DB"))
        .with_panel(
            timeline_panel(
                "Availability",
                "Whether each exporter and Admin API answered Prometheus, and the metadata DB each exporter.",
                query(f"max by (instance) (up{{{JOB}}})", "exporter {{instance}}", "A"),
                query(f"max by (instance) (amp_metadata_db_up{{{JOB}}})", "metadata DB, by {{instance}}", "B"),
                query(f"max by (instance) (up{{{ADMIN}}})", "Admin API {{instance}}", "C"),
                texts=_AVAILABILITY,
            )
        )
        .with_panel(
            timeseries_panel(
                "Failed queries",
                "By reason: unreachable (no connection), refused (no access), schema (no workers table, or "
                "another), timeout (no answer in time), query (anything else).",
                query(
                    f"60 * sum by (reason) (rate(amp_exporter_scrape_errors_total{{{JOB}}}[$__rate_interval]))",
                    "{{reason}}",
                ),
                unit=PER_MINUTE,
            )
        )
        .with_panel(
            timeseries_panel(
                "Query duration",
                "How long the metadata DB took to answer.",
                *quantiles(buckets),
                unit="s",
                soft_max=0.1,
            )
        )
        .with_panel(
            thresholds_shown(
                timeseries_panel(
                    "Scrape duration",
                    f"How long a scrape took, as Prometheus measured it. AmpExporterSlow: {SLOW_SECONDS} s and more.",
                    query(f"max by (instance) (scrape_duration_seconds{{{JOB}}})", "{{instance}}"),
                    unit="s",
                    soft_max=SLOW_SECONDS + 0.5,
                ),
                SLOW_SECONDS,
            )
        )
        .with_panel(
            thresholds_shown(
                timeseries_panel(
                    "Replay lag",
                    "By how much a metadata DB that is a standby lags behind its primary. From "
                    f"{LAGGING_SECONDS} s on, live workers look stale.",
                    query(f"max by (instance) (amp_metadata_db_replay_lag_seconds{{{JOB}}})", "{{instance}}"),
                    unit="s",
                    width=8,
                    soft_max=LAGGING_SECONDS + 1,
                ).no_value("The metadata DB is no standby, or it is unknown"),
                LAGGING_SECONDS,
            )
        )
        .with_panel(
            timeseries_panel(
                "Queries",
                "Queries of the metadata DB. Scrapes that come at the same moment share one.",
                query(
                    f"60 * sum by (instance) (rate({duration}_count{{{JOB}}}[$__rate_interval]))",
                    "{{instance}}",
                ),
                unit=PER_MINUTE,
                width=8,
            )
        )
        .with_panel(
            timeseries_panel(
                "Rows and series",
                "Rows of the workers table, forgotten workers included, and series of each scrape.",
                query(f"sum{of_one_exporter(f'amp_workers{{{JOB}}}')}", "rows"),
                query(f"max by (instance) (scrape_samples_scraped{{{JOB}}})", "series of {{instance}}", "B"),
                unit="none",
                width=8,
            )
        )
    )


def _admin(board: dashboard.Dashboard) -> dashboard.Dashboard:
    requests = f"rate(amp_admin_requests_total{{{ADMIN}}}[$__rate_interval])"
    errors = f'rate(amp_admin_requests_total{{{ADMIN}, status=~"[45].."}}[$__rate_interval])'
    buckets = f"sum by (le) (rate(amp_admin_request_duration_seconds_bucket{{{ADMIN}}}[$__rate_interval]))"
    panels = (
        timeseries_panel(
            "Requests to the Admin API",
            "By route and method. Requests without a route are none.",
            query(f"60 * sum by (method, route) ({requests})", "{{method}} {{route}}"),
            unit=PER_MINUTE,
            width=8,
        ),
        timeseries_panel(
            "Errors of the Admin API",
            "Answers with a status of 400 and more. 401 and 403: a wrong token; 404: no such worker; 503: the metadata "
            "DB does not answer, or too many requests.",
            query(
                f"60 * sum by (status) ({errors})\n"
                f'or on () label_replace(0 * sum({requests}), "status", "none", "", "")',
                "{{status}}",
            ),
            unit=PER_MINUTE,
            width=8,
        ),
        timeseries_panel(
            "Latency of the Admin API",
            "From a request's arrival to its answer.",
            *quantiles(buckets),
            unit="s",
            width=8,
            soft_max=0.1,
        ),
    )
    board = board.with_row(dashboard.Row("Admin API"))
    for panel in panels:
        board = board.with_panel(panel.no_value(_NO_ADMIN))
    return board


def _resources(board: dashboard.Dashboard) -> dashboard.Dashboard:
    instance = "{{job}} {{instance}}"
    return (
        board.with_row(dashboard.Row("What the exporter and the Admin API use"))
        .with_panel(
            timeseries_panel(
                "CPU",
                "Share of one core.",
                query(
                    f"sum by (job, instance) (rate(process_cpu_seconds_total{{{JOB_AND_ADMIN}}}[$__rate_interval]))",
                    instance,
                ),
                unit="percentunit",
                width=8,
                soft_max=0.1,
            )
        )
        .with_panel(
            timeseries_panel(
                "Memory",
                "Resident memory of the process that serves.",
                query(f"max by (job, instance) (process_resident_memory_bytes{{{JOB_AND_ADMIN}}})", instance),
                unit="bytes",
                width=8,
            )
        )
        .with_panel(
            timeseries_panel(
                "Open files",
                "File descriptors, connections among them.",
                query(f"max by (job, instance) (process_open_fds{{{JOB_AND_ADMIN}}})", instance),
                unit="none",
                width=8,
            )
        )
    )
