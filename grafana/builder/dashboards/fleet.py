"""The fleet: who is alive, what versions run, which workers need a look."""

from grafana_foundation_sdk.builders import dashboard, table

from grafana.builder import recording_rules as record
from grafana.builder.dashboards.annotations import Annotation
from grafana.builder.dashboards.frame import framed
from grafana.builder.dashboards.panels import (
    GREEN,
    JOB,
    NEEDS_ALL,
    ORANGE,
    PURPLE,
    RED,
    SICK_ARE_ENOUGH,
    STATE_COLOURS,
    age_column,
    column,
    columns,
    descending,
    exporters_panel,
    fixed,
    heatmap_panel,
    instant,
    metadata_db_panel,
    quantiles,
    query,
    stacked,
    stat_panel,
    table_panel,
    tabular,
    thresholds,
    timeline_panel,
    timeseries_panel,
)
from grafana.builder.links import FLEET_UID
from grafana.builder.thresholds import LOST_SECONDS, SHARE_OF_FLEET, SILENT_SECONDS, STALE_SECONDS

SEARCH = f'{JOB}, node_id=~".*$search.*"'

_STATE_MEANS = {
    "active": f"Workers whose last heartbeat is at most {STALE_SECONDS} s from now.",
    "stale": f"Workers whose last heartbeat is over {STALE_SECONDS} s from now: hanging, cut off or just killed.",
    "lost": f"Workers whose last heartbeat is over {LOST_SECONDS} s from now: unlikely to recover by themselves.",
    "stopped": "Workers that ended on purpose.",
    "forgotten": "Workers lost or stopped for longer than a day: counted here and shown nowhere else.",
}


def fleet_dashboard() -> dashboard.Dashboard:
    board = (
        framed(
            "Amp / Fleet", FLEET_UID, "All workers of one metadata DB: who is alive, what they run, who needs a look."
        )
        .with_variable(dashboard.TextBoxVariable("search").label("Node ids with").default_value(""))
        .annotation(
            Annotation(
                "Alerts",
                f'ALERTS{{alertname=~"Amp.+", alertstate="firing", scope!="worker", {JOB}}}',
                "{{alertname}}",
                RED,
            )
        )
    )
    board = _now(board)
    board = _heartbeats(board)
    board = _versions(board)
    return _workers(board)


def _now(board: dashboard.Dashboard) -> dashboard.Dashboard:
    board = board.with_row(dashboard.Row("Now"))
    for state, meaning in _STATE_MEANS.items():
        colour = STATE_COLOURS[state]
        panel = stat_panel(
            state.capitalize(),
            meaning,
            instant(f'max(amp_workers{{{JOB}, state="{state}"}})', state),
            unit="none",
        )
        # None active is the alarm; of the other states, any is worth its colour.
        steps = [(None, RED), (1, colour)] if state == "active" else [(None, "text"), (1, colour)]
        board = board.with_panel(panel.thresholds(thresholds(steps)))
    return (
        board.with_panel(
            stat_panel(
                "Silent share",
                f"Share of the workers that did not stop on purpose with no heartbeat for over {SILENT_SECONDS} s, "
                "who fell silent within the last hour. While nothing is known, what was last known.",
                instant(f"{record.DOWN_RATIO}{{{JOB}}}", "silent"),
                unit="percentunit",
            ).thresholds(thresholds([(None, GREEN), (0.001, ORANGE), (SHARE_OF_FLEET, RED)]))
        )
        .with_panel(metadata_db_panel())
        .with_panel(exporters_panel())
    )


def _heartbeats(board: dashboard.Dashboard) -> dashboard.Dashboard:
    buckets = f"max by (le) (amp_fleet_heartbeat_age_seconds_bucket{{{JOB}}})"
    states = timeseries_panel(
        "Workers by state",
        "How many workers were in each state. A gap is a time of which nothing is known.",
        query(f"max by (state) (amp_workers{{{JOB}}})", "{{state}}"),
        unit="none",
    )
    for state, colour in STATE_COLOURS.items():
        states = states.override_by_name(state, [fixed(colour)])

    def workers(state: str) -> str:
        return f'max(amp_workers{{{JOB}, state="{state}"}})'

    return (
        board.with_row(dashboard.Row("Heartbeats"))
        .with_panel(
            heatmap_panel(
                "Heartbeat age",
                "How many active, stale and lost workers had a heartbeat of which age. A healthy fleet is one bright "
                "line at the bottom.",
                query(buckets, "{{le}}"),
            )
        )
        .with_panel(
            timeseries_panel(
                "Heartbeat age, quantiles",
                "Estimated from the buckets of the heatmap, over active, stale and lost workers.",
                *quantiles(buckets),
                unit="s",
                height=9,
            )
        )
        .with_panel(stacked(states))
        .with_panel(
            timeline_panel(
                "What was known, and how it was",
                "Whether exporter and metadata DB answered, and the worst state that a worker was in. A gap is a time "
                "of which nothing is known.",
                query(f"max(up{{{JOB}}})", "exporter", "A"),
                query(f"max(amp_metadata_db_up{{{JOB}}})", "metadata DB", "B"),
                query(
                    f"2 + 3 * ({workers('active')} == 0) ^ 0\nor 4 * ({workers('lost')} > 0) ^ 0\n"
                    f"or 3 * ({workers('stale')} > 0) ^ 0\nor 2 * {workers('active')} ^ 0",
                    "workers",
                    "C",
                ),
                texts={
                    0: ("does not answer", RED),
                    1: ("answers", GREEN),
                    2: ("all active", GREEN),
                    3: ("some stale", ORANGE),
                    4: ("some lost", RED),
                    5: ("none active", PURPLE),
                },
                unit="none",
            )
        )
    )


def _versions(board: dashboard.Dashboard) -> dashboard.Dashboard:
    by_version = f"max by (version) (amp_workers_by_version{{{JOB}}})"
    return (
        board.with_row(dashboard.Row("Versions"))
        .with_panel(
            stacked(
                timeseries_panel(
                    "Workers by version",
                    "Active and stale workers of each version: how a rollout goes.",
                    query(by_version, "{{version}}"),
                    unit="none",
                )
            )
        )
        .with_panel(
            timeseries_panel(
                "Share of each version",
                "The same as a share of the active and stale workers.",
                query(f"{by_version} / scalar(sum({by_version}) > 0)", "{{version}}"),
                unit="percentunit",
            ).max(1)
        )
    )


def _workers(board: dashboard.Dashboard) -> dashboard.Dashboard:
    age = f"min by (node_id) (amp_worker_heartbeat_age_seconds{{{JOB}}})"
    registered = f"max by (node_id) (amp_worker_registered_timestamp_seconds{{{JOB}}})"
    restarts = f"max by (node_id) (changes(amp_worker_registered_timestamp_seconds{{{JOB}}}[$__range]))"
    created = f"max by (node_id) (amp_worker_created_timestamp_seconds{{{JOB}}})"
    return (
        board.with_row(dashboard.Row("Workers"))
        .with_panel(
            timeline_panel(
                "The twenty longest silent",
                "Of the workers with the heartbeats furthest from their time in this time range: when they were active "
                "(green), stale (orange) and lost (red)." + SICK_ARE_ENOUGH,
                query(
                    f"{age} and on (node_id)\ntopk(20, max by (node_id) (\n"
                    f"  max_over_time(amp_worker_heartbeat_age_seconds{{{JOB}}}[$__range] @ end())\n"
                    # A label more keeps `or` from dropping the second value of a worker.
                    f"  or label_replace(-min_over_time(amp_worker_heartbeat_age_seconds{{{JOB}}}[$__range] @ end()), "
                    '"ahead", "yes", "", "")\n))',
                    "{{node_id}}",
                ),
                unit="s",
                height=10,
            )
        )
        .with_panel(
            timeseries_panel(
                "The ten oldest heartbeats",
                "The age of the last heartbeat of the ten workers whose heartbeats are furthest from now. Negative "
                "where it lies in the future." + SICK_ARE_ENOUGH,
                query(
                    f"{age} and on (node_id)\ntopk(10, min by (node_id) "
                    f"(abs(amp_worker_heartbeat_age_seconds{{{JOB}}} @ end())))",
                    "{{node_id}}",
                ),
                unit="s",
                height=10,
                signed=True,
            )
        )
        .with_panel(
            columns(
                table_panel(
                    "Longest silent workers",
                    f"The ten workers whose heartbeats are furthest from now, past or future, if by more than "
                    f"{SILENT_SECONDS} s. Stopped and forgotten workers are excluded." + SICK_ARE_ENOUGH,
                    tabular(f"topk(10, max by (node_id) ({record.SILENCE}{{{JOB}}}))", "A"),
                    tabular(
                        f"max by (node_id, version) (amp_worker_info{{{JOB}}})\n"
                        f"and on (node_id) topk(10, max by (node_id) ({record.SILENCE}{{{JOB}}}))",
                        "B",
                    ),
                    unit="none",
                    width=8,
                )
                .override_by_name("Silent for", age_column())
                .sort_by([descending("Silent for")]),
                {"node_id": "Worker", "Value #A": "Silent for", "version": "Version"},
            )
        )
        .with_panel(
            columns(
                table_panel(
                    "Newest workers",
                    "The ten node ids that registered for the first time most recently." + NEEDS_ALL,
                    tabular(f"topk(10, {created}) * 1000", "A"),
                    unit="none",
                    width=8,
                )
                .override_by_name("First registered", column("dateTimeFromNow", 160))
                .sort_by([descending("First registered")]),
                {"node_id": "Worker", "Value": "First registered"},
            )
        )
        .with_panel(
            columns(
                table_panel(
                    "Restarts",
                    "The ten workers that registered again most often in this time range." + NEEDS_ALL,
                    tabular(f"topk(10, {restarts} > 0)", "A"),
                    unit="none",
                    width=8,
                ).sort_by([descending("Restarts")]),
                {"node_id": "Worker", "Value": "Restarts"},
            )
        )
        .with_panel(
            timeseries_panel(
                "Restarts of the fleet",
                "How many workers registered again, per minute." + NEEDS_ALL,
                query(
                    f"sum(max by (node_id) (changes(amp_worker_registered_timestamp_seconds{{{JOB}}}[1m])))",
                    "restarts per minute",
                ),
                unit="none",
                width=24,
                height=6,
            )
        )
        .with_panel(_every_worker(age, registered, created))
    )


def _every_worker(age: str, registered: str, created: str) -> table.Panel:
    searched = [expr.replace(JOB, SEARCH) for expr in (age, registered, created)]
    heartbeat = f"max by (node_id) (amp_worker_heartbeat_timestamp_seconds{{{SEARCH}}}) * 1000"
    stopped = f"max by (node_id) (amp_worker_stopped_timestamp_seconds{{{SEARCH}}}) * 1000"
    info = f"max by (node_id, version, commit_sha) (amp_worker_info{{{SEARCH}}})"
    panel = table_panel(
        "Every worker",
        "All workers that are not forgotten; narrow them down above, under «Node ids with». A click on a worker opens "
        "its dashboard. Stopped workers have no age: no heartbeat is expected of them." + NEEDS_ALL,
        tabular(searched[0], "A"),
        tabular(heartbeat, "B"),
        tabular(f"{searched[1]} * 1000", "C"),
        tabular(f"{searched[2]} * 1000", "D"),
        tabular(stopped, "E"),
        tabular(info, "F"),
        unit="none",
        width=24,
        height=14,
    ).override_by_name("Heartbeat age", age_column())
    for name in ("Last heartbeat", "Registered", "Created", "Stopped"):
        panel = panel.override_by_name(name, column("dateTimeAsIso", 180))
    return columns(
        panel,
        {
            "node_id": "Worker",
            "Value #A": "Heartbeat age",
            "version": "Version",
            "Value #B": "Last heartbeat",
            "Value #C": "Registered",
            "Value #D": "Created",
            "Value #E": "Stopped",
            "commit_sha": "Commit",
        },
    )
