"""One worker: what state it is in, and why."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana.builder.dashboards.annotations import alerts, restarts
from grafana.builder.dashboards.frame import framed, query_variable
from grafana.builder.dashboards.panels import (
    AGE_BOUNDS,
    DARK_RED,
    GREEN,
    JOB,
    NEEDS_ALL,
    NEUTRAL,
    ORANGE,
    RED,
    SECONDS,
    STATE_TEXTS,
    UNHEALTHY_ARE_ENOUGH,
    age_bounds,
    alert_column,
    column,
    columns,
    instant,
    mapped,
    of_one_exporter,
    or_unknown,
    query,
    stat_panel,
    state_of,
    table_panel,
    tabular,
    thresholds,
    thresholds_shown,
    timeline_panel,
    timeseries_panel,
    with_bounds,
)
from grafana.builder.durations import promql
from grafana.builder.links import WORKER_UID, Links
from grafana.builder.thresholds import RESTARTS, RESTARTS_WITHIN

WORKER = f'{JOB}, node_id="$node_id"'

_STATE = f"max({state_of(WORKER)})"
_AGE = f"min(amp_worker_heartbeat_age_seconds{{{WORKER}}})"
_PROGRESS_AGE = f"min(amp_worker_progress_age_seconds{{{WORKER}}})"
_PROMISE = f"max(amp_worker_watchdog_seconds{{{WORKER}}})"
_VERSION = f"max by (version) (amp_worker_info{{{WORKER}}})"
_MAJORITY = f"topk(1, sum by (version) {of_one_exporter(f'amp_workers_by_version{{{JOB}}}')})"


def worker_dashboard(links: Links) -> dashboard.Dashboard:
    board = (
        framed("Amp / Worker", WORKER_UID, "One worker: what state it is in, and why.")
        .with_variable(
            query_variable("node_id", "Worker", 'label_values(amp_worker_info{job="$job"}, node_id)').description(
                "A node id that is not in the list can be typed in."
            )
        )
        .annotation(restarts(f"max(amp_worker_registered_timestamp_seconds{{{WORKER}}})", "registered"))
        .annotation(alerts(WORKER))
    )
    return _over_time(_life(_now(board, links)))


def _now(board: dashboard.Dashboard, links: Links) -> dashboard.Dashboard:
    failure = f"max by (reason) (amp_worker_failed{{{WORKER}}})\nor on () {_none('reason')}"
    exit_code = f'count_values("code", max(amp_worker_exit_code{{{WORKER}}}))\nor on () {_none("code")}'
    return (
        board.with_row(dashboard.Row("Now"))
        .with_panel(
            mapped(
                stat_panel(
                    "State",
                    "Unknown: the worker is forgotten or never registered, or the metadata DB does not answer."
                    + NEEDS_ALL,
                    instant(_STATE, "state"),
                    unit="none",
                    width=4,
                ),
                STATE_TEXTS,
            )
        )
        .with_panel(
            stat_panel(
                "Failure",
                "Why the worker ended, if that was not on purpose." + UNHEALTHY_ARE_ENOUGH,
                instant(or_unknown(failure, "reason"), "{{reason}}"),
                unit="none",
                width=5,
            )
            .thresholds(thresholds([(None, NEUTRAL), (1, DARK_RED)]))
            .text_mode(BigValueTextMode.NAME)
        )
        .with_panel(
            stat_panel(
                "Exit code",
                "The exit code of the program of a stopped or failed worker: 128 and the number of the signal that "
                "killed it." + NEEDS_ALL,
                instant(or_unknown(exit_code, "code"), "{{code}}"),
                unit="none",
                width=3,
            ).text_mode(BigValueTextMode.NAME)
        )
        .with_panel(
            stat_panel(
                "Heartbeat age",
                "Time since the last heartbeat; negative if it lies in the future. Stopped and failed workers have "
                "none." + NEEDS_ALL,
                instant(_AGE, "age"),
                unit="s",
                width=4,
            ).no_value("none or unknown")
        )
        .with_panel(
            stat_panel(
                "Progress age",
                "Time since the program last reported progress. Programs that report none have none." + NEEDS_ALL,
                instant(_PROGRESS_AGE, "age"),
                unit="s",
                width=4,
            ).no_value("none or unknown")
        )
        .with_panel(
            stat_panel(
                "Unfinished jobs",
                "Jobs of Amp's that this worker holds. Unknown where the metadata DB is not Amp's own." + NEEDS_ALL,
                instant(f"max(amp_worker_jobs{{{WORKER}}})", "jobs"),
                unit="none",
                width=4,
            )
        )
        .with_panel(
            columns(
                table_panel(
                    "Firing alerts",
                    "Alerts about this worker that fire, also those that another alert inhibits.",
                    tabular(f'max by (alertname, severity) (ALERTS{{{WORKER}, alertstate="firing"}})'),
                    unit="none",
                    width=12,
                    height=5,
                )
                .override_by_name("Alert", alert_column(links.runbook("${__value.text}")))
                .override_by_name("Severity", column("none", 120))
                .no_value("No alert about this worker fires, or the rules are not loaded"),
                {"alertname": "Alert", "severity": "Severity"},
                join=False,
            )
        )
        .with_panel(
            stat_panel(
                "Version",
                "The version that this worker runs: green where most workers of the fleet run it, orange where they "
                "do not." + NEEDS_ALL,
                instant(
                    or_unknown(f"({_VERSION} and on (version) {_MAJORITY})\nor 0 * {_VERSION}", "version"),
                    "{{version}}",
                ),
                unit="none",
                width=6,
                height=5,
            )
            .thresholds(thresholds([(None, NEUTRAL), (0, ORANGE), (1, GREEN)]))
            .text_mode(BigValueTextMode.NAME)
        )
        .with_panel(
            stat_panel(
                "Version of the fleet",
                "The version that most active, stuck and stale workers run.",
                instant(or_unknown(_MAJORITY, "version"), "{{version}}"),
                unit="none",
                width=6,
                height=5,
            ).text_mode(BigValueTextMode.NAME)
        )
    )


def _none(label: str) -> str:
    """Return a query with the text `none` in a label, at the value 0, where the state of the worker is known."""
    return f'label_replace(0 * {_STATE}, "{label}", "none", "", "")'


def _life(board: dashboard.Dashboard) -> dashboard.Dashboard:
    for title, description, family, otherwise in (
        ("Last heartbeat", "When the last heartbeat was written.", "heartbeat", "unknown"),
        ("Started", "When the worker last registered.", "registered", "unknown"),
        ("Stopped", "When the worker stopped or failed.", "stopped", "not stopped, or unknown"),
        ("Created", "When this node id registered for the first time.", "created", "unknown"),
    ):
        board = board.with_panel(
            stat_panel(
                title,
                description + NEEDS_ALL,
                instant(f"max(amp_worker_{family}_timestamp_seconds{{{WORKER}}}) * 1000", title.lower()),
                unit="dateTimeFromNow",
                width=6,
                height=3,
            ).no_value(otherwise)
        )
    return board


def _over_time(board: dashboard.Dashboard) -> dashboard.Dashboard:
    window = promql(RESTARTS_WITHIN)
    return (
        board.with_row(dashboard.Row("Over time"))
        .with_panel(
            timeline_panel(
                "State over time",
                "In a gap, the state is unknown. Blue marks are restarts; red ones show where an alert began."
                + NEEDS_ALL,
                query(_STATE, "state"),
                texts=STATE_TEXTS,
                width=24,
                height=4,
            ).no_value("unknown")
        )
        .with_panel(
            with_bounds(
                timeseries_panel(
                    "Heartbeat age over time",
                    "Time since the last heartbeat; negative if it lies in the future. The dashed lines are the "
                    "exporter's --stale-after and --lost-after." + UNHEALTHY_ARE_ENOUGH,
                    query(_AGE, "heartbeat age"),
                    age_bounds(),
                    unit=SECONDS,
                    signed=True,
                ),
                AGE_BOUNDS,
            )
        )
        .with_panel(
            with_bounds(
                timeseries_panel(
                    "Progress age over time",
                    "Time since the program last reported progress. The dashed line is what it promised: --watchdog."
                    + NEEDS_ALL,
                    query(_PROGRESS_AGE, "progress age"),
                    query(_PROMISE, "promised", "B"),
                    unit=SECONDS,
                ),
                {"promised": RED},
            ).no_value("No progress was reported, or it is unknown")
        )
        .with_panel(
            thresholds_shown(
                timeseries_panel(
                    "Restarts",
                    f"How often the worker registered again within {window}. AmpWorkerRestarting fires at the line."
                    + NEEDS_ALL,
                    query(f"max(changes(amp_worker_registered_timestamp_seconds{{{WORKER}}}[{window}]))", "restarts"),
                    unit="none",
                    soft_max=RESTARTS + 1,
                ).no_value("unknown"),
                RESTARTS,
            )
        )
        .with_panel(
            timeseries_panel(
                "Unfinished jobs over time",
                "Jobs of Amp's that this worker held." + NEEDS_ALL,
                query(f"max(amp_worker_jobs{{{WORKER}}})", "jobs"),
                unit="none",
            ).no_value("Jobs are unknown: the metadata DB is not Amp's own")
        )
        .with_panel(
            columns(
                table_panel(
                    "Build",
                    "What the worker was built from, as it reported when it registered." + NEEDS_ALL,
                    tabular(
                        "max by (node_id, version, commit_sha, commit_timestamp, build_date) "
                        f"(amp_worker_info{{{WORKER}}})"
                    ),
                    unit="none",
                    width=24,
                    height=4,
                )
                .override_by_name("Commit", [models.DynamicConfigValue(id_val="custom.minWidth", value=340)])
                .no_value("unknown"),
                {
                    "node_id": "Worker",
                    "version": "Version",
                    "commit_sha": "Commit",
                    "commit_timestamp": "Committed",
                    "build_date": "Built",
                },
                join=False,
            )
        )
    )
