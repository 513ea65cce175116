"""The exporter and the metadata DB as the exporter sees it."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana.builder.dashboards.frame import framed
from grafana.builder.dashboards.panels import (
    GREEN,
    JOB,
    RED,
    exporters_panel,
    instant,
    metadata_db_panel,
    or_unknown,
    quantiles,
    query,
    stat_panel,
    thresholds_shown,
    timeline_panel,
    timeseries_panel,
)
from grafana.builder.links import EXPORTER_UID
from grafana.builder.thresholds import LAGGING_SECONDS, SLOW_SECONDS

_UP_OR_DOWN = {0: ("does not answer", RED), 1: ("answers", GREEN)}


def exporter_dashboard() -> dashboard.Dashboard:
    board = framed(
        "Amp / Exporter and metadata DB",
        EXPORTER_UID,
        "Whether what the other dashboards show can be trusted: the exporter, and the metadata DB as it sees it.",
    )
    return _resources(_scrapes(_now(board)))


def _now(board: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        board.with_row(dashboard.Row("Now"))
        .with_panel(metadata_db_panel(width=4))
        .with_panel(exporters_panel(width=4))
        .with_panel(
            stat_panel(
                "Exporter's version",
                "The version of the exporter itself.",
                instant(or_unknown(f"max by (version) (amp_exporter_build_info{{{JOB}}})", "version"), "{{version}}"),
                unit="none",
                width=4,
            ).text_mode(BigValueTextMode.NAME)
        )
        .with_panel(
            stat_panel(
                "Rows",
                "Rows of the workers table, forgotten workers included.",
                instant(f"sum(max by (state) (amp_workers{{{JOB}}}))", "rows"),
                unit="none",
                width=4,
            )
        )
        .with_panel(
            stat_panel(
                "Series",
                "Series that the largest exporter published in its last scrape.",
                instant(f"max(scrape_samples_scraped{{{JOB}}})", "series"),
                unit="none",
                width=4,
            )
        )
        .with_panel(
            stat_panel(
                "Running since",
                "When the exporter that has been running for the shortest time started.",
                instant(f"max(process_start_time_seconds{{{JOB}}}) * 1000", "started"),
                unit="dateTimeFromNow",
                width=4,
            )
        )
    )


def _scrapes(board: dashboard.Dashboard) -> dashboard.Dashboard:
    duration = "amp_exporter_query_duration_seconds"
    buckets = f"sum by (le) (rate({duration}_bucket{{{JOB}}}[$__rate_interval]))"
    return (
        board.with_row(dashboard.Row("Scrapes"))
        .with_panel(
            timeline_panel(
                "Who answered",
                "Whether each exporter answered Prometheus, and the metadata DB that exporter.",
                query(f"max by (instance) (up{{{JOB}}})", "exporter {{instance}}", "A"),
                query(f"max by (instance) (amp_metadata_db_up{{{JOB}}})", "metadata DB, by {{instance}}", "B"),
                texts=_UP_OR_DOWN,
                unit="none",
            )
        )
        .with_panel(
            timeseries_panel(
                "Failed queries",
                "Per minute, by reason: unreachable (no connection), refused (no access), schema (no workers table, or "
                "another), timeout (no answer in time), query (anything else).",
                query(
                    f"60 * sum by (reason) (rate(amp_exporter_scrape_errors_total{{{JOB}}}[$__rate_interval]))",
                    "{{reason}}",
                ),
                unit="none",
            )
        )
        .with_panel(
            timeseries_panel(
                "Query duration",
                "How long the metadata DB took to answer.",
                *quantiles(buckets),
                unit="s",
            )
        )
        .with_panel(
            thresholds_shown(
                timeseries_panel(
                    "Scrape duration",
                    f"How long a scrape took, as Prometheus saw it. {SLOW_SECONDS} s is slow.",
                    query(f"max by (instance) (scrape_duration_seconds{{{JOB}}})", "{{instance}}"),
                    unit="s",
                ),
                ((None, GREEN), (SLOW_SECONDS, RED)),
            )
        )
        .with_panel(
            thresholds_shown(
                timeseries_panel(
                    "Replay lag",
                    "By how much a metadata DB that is a standby lags behind its primary. A primary has no lag. From "
                    f"{LAGGING_SECONDS} s on, live workers look stale.",
                    query(f"max by (instance) (amp_metadata_db_replay_lag_seconds{{{JOB}}})", "{{instance}}"),
                    unit="s",
                    width=24,
                ),
                ((None, GREEN), (LAGGING_SECONDS, RED)),
            )
        )
        .with_panel(
            timeseries_panel(
                "Queries",
                "Queries of the metadata DB, per minute. Scrapes that come at the same moment share one.",
                query(
                    f"60 * sum by (instance) (rate({duration}_count{{{JOB}}}[$__rate_interval]))",
                    "{{instance}}",
                ),
                unit="none",
            )
        )
        .with_panel(
            timeseries_panel(
                "Series over time",
                "Series of each scrape. It grows with the fleet, and by nothing else.",
                query(f"max by (instance) (scrape_samples_scraped{{{JOB}}})", "{{instance}}"),
                unit="none",
            )
        )
    )


def _resources(board: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        board.with_row(dashboard.Row("What the exporter uses"))
        .with_panel(
            timeseries_panel(
                "CPU",
                "Share of one core.",
                query(
                    f"sum by (instance) (rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval]))", "{{instance}}"
                ),
                unit="percentunit",
                width=8,
            )
        )
        .with_panel(
            timeseries_panel(
                "Memory",
                "Resident memory of the process that serves.",
                query(f"max by (instance) (process_resident_memory_bytes{{{JOB}}})", "{{instance}}"),
                unit="bytes",
                width=8,
            )
        )
        .with_panel(
            timeseries_panel(
                "Open files",
                "File descriptors, connections among them.",
                query(f"max by (instance) (process_open_fds{{{JOB}}})", "{{instance}}"),
                unit="none",
                width=8,
            )
        )
    )
