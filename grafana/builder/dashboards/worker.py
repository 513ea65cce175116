"""One worker: is it alive, since when, built from what, and is that what the fleet runs."""

from grafana_foundation_sdk.builders import dashboard, prometheus, stat
from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana.builder.dashboards.annotations import Annotation
from grafana.builder.dashboards.frame import framed, query_variable
from grafana.builder.dashboards.panels import (
    AGE_STEPS,
    BLUE,
    GREEN,
    JOB,
    NEEDS_ALL,
    NEUTRAL,
    ORANGE,
    RED,
    SICK_ARE_ENOUGH,
    STATE_TEXTS,
    columns,
    instant,
    mapped,
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
)
from grafana.builder.links import WORKER_UID
from grafana.builder.thresholds import LOST_SECONDS, STALE_SECONDS

WORKER = f'{JOB}, node_id="$node_id"'

_AGE = f"min(amp_worker_heartbeat_age_seconds{{{WORKER}}})"
_STOPPED = f"max(amp_worker_stopped_timestamp_seconds{{{WORKER}}})"
_MAJORITY = f"topk(1, max by (version) (amp_workers_by_version{{{JOB}}}))"
_VERSION = f"max by (version) (amp_worker_info{{{WORKER}}})"

_STATE = f"max({state_of(WORKER)})"


def worker_dashboard() -> dashboard.Dashboard:
    board = (
        framed("Amp / Worker", WORKER_UID, "One worker: is it alive, since when, built from what.")
        .with_variable(
            query_variable("node_id", "Worker", 'label_values(amp_worker_info{job="$job"}, node_id)').description(
                "A node id that is not in the list can be typed in."
            )
        )
        .annotation(
            Annotation(
                "Restarts",
                f"max(amp_worker_registered_timestamp_seconds{{{WORKER}}}) * 1000",
                "registered",
                BLUE,
                value_is_time=True,
            )
        )
        .annotation(
            Annotation(
                "Alerts",
                f'ALERTS{{alertname=~"Amp.+", alertstate="firing", {WORKER}}}',
                "{{alertname}}",
                RED,
            )
        )
    )
    return _build(_heartbeat(_now(board)))


def _now(board: dashboard.Dashboard) -> dashboard.Dashboard:
    board = (
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
                "Heartbeat age",
                "Seconds since the last heartbeat; negative if it lies in the future. Stopped workers have none."
                + NEEDS_ALL,
                instant(_AGE, "age"),
                unit="s",
                width=4,
            ).thresholds(thresholds(AGE_STEPS))
        )
    )
    for title, description, family in (
        ("Last heartbeat", "When the last heartbeat was written.", "heartbeat"),
        ("Registered", "When the worker last started.", "registered"),
        ("Created", "When this node id registered for the first time.", "created"),
        ("Stopped", "When the worker stopped on purpose. Unknown for one that did not.", "stopped"),
    ):
        board = board.with_panel(
            stat_panel(
                title,
                description + NEEDS_ALL,
                instant(f"max(amp_worker_{family}_timestamp_seconds{{{WORKER}}}) * 1000", title.lower()),
                unit="dateTimeFromNow",
                width=4,
            )
        )
    return board


def _heartbeat(board: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        board.with_row(dashboard.Row("Heartbeat"))
        .with_panel(
            thresholds_shown(
                timeseries_panel(
                    "Heartbeat age over time",
                    f"Seconds since the last heartbeat, over the bounds of stale ({STALE_SECONDS} s) and lost "
                    f"({LOST_SECONDS} s). Blue marks are restarts." + SICK_ARE_ENOUGH,
                    query(_AGE, "age"),
                    unit="s",
                    width=24,
                    height=9,
                    signed=True,
                )
            )
        )
        .with_panel(
            timeline_panel(
                "State over time",
                "A gap is a time of which nothing is known." + NEEDS_ALL,
                query(_STATE, "state"),
                texts=STATE_TEXTS,
                unit="none",
                height=5,
            )
        )
        .with_panel(
            timeseries_panel(
                "Restarts",
                "How often the worker registered again, within ten minutes." + NEEDS_ALL,
                query(f"max(changes(amp_worker_registered_timestamp_seconds{{{WORKER}}}[10m]))", "within 10 minutes"),
                unit="none",
                height=5,
            )
        )
    )


def _build(board: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        board.with_row(dashboard.Row("Build"))
        .with_panel(
            columns(
                table_panel(
                    "Build info",
                    "What the worker was built from, as it said when it registered." + NEEDS_ALL,
                    tabular(
                        "max by (node_id, version, commit_sha, commit_timestamp, build_date) "
                        f"(amp_worker_info{{{WORKER}}})"
                    ),
                    unit="none",
                    height=6,
                ),
                {
                    "node_id": "Worker",
                    "version": "Version",
                    "commit_sha": "Commit",
                    "commit_timestamp": "Committed",
                    "build_date": "Built",
                },
            )
        )
        .with_panel(
            _version_panel(
                "Its version",
                "The version that this worker runs." + NEEDS_ALL,
                instant(or_unknown(_VERSION, "version"), "{{version}}"),
            )
        )
        .with_panel(
            _version_panel(
                "The fleet's version",
                "The version that most active and stale workers run.",
                instant(or_unknown(_MAJORITY, "version"), "{{version}}"),
            )
        )
        .with_panel(
            stat_panel(
                "As most of the fleet",
                "Whether this worker runs the version that most active and stale workers run." + NEEDS_ALL,
                instant(
                    f"max({_VERSION} and on (version) {_MAJORITY})\nor 0 * max({_VERSION})",
                    "as most of the fleet",
                ),
                unit="bool_yes_no",
                width=4,
                height=6,
            ).thresholds(thresholds([(None, NEUTRAL), (0, ORANGE), (1, GREEN)]))
        )
    )


def _version_panel(title: str, description: str, target: prometheus.Dataquery) -> stat.Panel:
    panel = stat_panel(title, description, target, unit="none", width=4, height=6)
    return panel.text_mode(BigValueTextMode.NAME)
