"""The fleet: who is alive, what versions run, which workers need a look."""

from grafana_foundation_sdk.builders import dashboard, table
from grafana_foundation_sdk.models import dashboard as models

from grafana.builder import recording_rules as record
from grafana.builder.dashboards.annotations import Annotation
from grafana.builder.dashboards.frame import framed
from grafana.builder.dashboards.panels import (
    DARK_RED,
    GREEN,
    GREY,
    JOB,
    NEEDS_ALL,
    NEUTRAL,
    ORANGE,
    PURPLE,
    RED,
    SICK_ARE_ENOUGH,
    STATE_COLOURS,
    STATE_TEXTS,
    column,
    columns,
    descending,
    exporters_panel,
    fixed,
    heatmap_panel,
    instant,
    metadata_db_panel,
    of_one_exporter,
    query,
    stacked,
    stat_panel,
    state_column,
    state_of,
    table_panel,
    tabular,
    thresholds,
    timeline_panel,
    timeseries_panel,
)
from grafana.builder.links import FLEET_UID
from grafana.builder.thresholds import SHARE_OF_FLEET

SEARCH = f'{JOB}, node_id=~".*$search.*"'

_STATE_MEANS = {
    "active": "Workers that send heartbeats, and keep their promise to report progress if they made one.",
    "stuck": "Workers that send heartbeats, and broke their promise to report progress.",
    "stale": "Workers whose last heartbeat is further from now than --stale-after: hanging, cut off or just killed.",
    "lost": "Workers whose last heartbeat is further from now than --lost-after: unlikely to recover by themselves.",
    "failed": "Workers whose program ended with an error.",
    "stopped": "Workers that ended on purpose.",
    "forgotten": "Workers lost, stopped or failed for longer than --forget-after: counted here and shown nowhere else.",
}

WORST, MOST = 20, 500
"""Rows of the tables: a browser that is sent every worker of a large fleet each 10 s is of no use."""


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
    board = board.with_row(dashboard.Row("Now")).with_panel(
        stat_panel(
            "All workers",
            "Rows of the workers table: the sum of all states.",
            instant(f"sum({of_one_exporter(f'amp_workers{{{JOB}}}')})", "workers"),
            unit="none",
        )
    )
    for state, meaning in _STATE_MEANS.items():
        colour = STATE_COLOURS[state]
        family = f'amp_workers{{{JOB}, state="{state}"}}'
        panel = stat_panel(state.capitalize(), meaning, instant(f"max({of_one_exporter(family)})", state), unit="none")
        # A fleet without an active worker is a problem; of the other states, one worker is worth the colour.
        steps = [(None, NEUTRAL), (0, RED), (1, colour)] if state == "active" else [(None, NEUTRAL), (1, colour)]
        board = board.with_panel(panel.thresholds(thresholds(steps)))
    return (
        board.with_panel(
            stat_panel(
                "Share down",
                "Share of the workers that failed or fell silent within the last hour, of those that had a heartbeat "
                "or failed within it. While the state is unknown, the last known share.",
                instant(f"{record.DOWN_RATIO}{{{JOB}}}", "down"),
                unit="percentunit",
                width=6,
            ).thresholds(thresholds([(None, NEUTRAL), (0, GREEN), (0.001, ORANGE), (SHARE_OF_FLEET, RED)]))
        )
        .with_panel(
            stat_panel(
                "Stranded jobs",
                "Jobs whose worker cannot run them. Unknown where the metadata DB is not Amp's own. While jobs are "
                "unknown, the last known number.",
                instant(f"{record.STRANDED}{{{JOB}}}", "stranded"),
                unit="none",
                width=6,
            ).thresholds(thresholds([(None, NEUTRAL), (0, GREEN), (1, RED)]))
        )
        .with_panel(metadata_db_panel(width=6))
        .with_panel(exporters_panel(width=6))
        .with_panel(
            columns(
                table_panel(
                    "Firing alerts",
                    "Alerts of this fleet that fire, and for how many workers or exporters, also those that another "
                    "alert inhibits.",
                    tabular(
                        f'count by (alertname, severity) (ALERTS{{{JOB}, alertstate="firing"}})\n'
                        "or label_replace(label_replace("
                        f'absent({record.EXPORTERS_UP}{{{JOB}}}), "alertname", "The rules are not loaded", "", ""), '
                        '"severity", "unknown", "", "")'
                    ),
                    unit="none",
                    width=9,
                    height=11,
                )
                .override_by_name("Alert", [models.DynamicConfigValue(id_val="custom.minWidth", value=240)])
                .override_by_name("Severity", column("none", 80))
                .override_by_name("Series", column("none", 70))
                .no_value("No alert fires"),
                {"alertname": "Alert", "severity": "Severity", "Value": "Series"},
                join=False,
            )
        )
        .with_panel(_workers_table("Worst workers", WORST, f"{_rank(JOB)} > 2", JOB, width=15, height=11))
    )


def _rank(selector: str) -> str:
    """Return a query for a number of each worker: the larger, the worse its state, and the older its heartbeat."""
    heartbeat = f"max by (node_id) (amp_worker_heartbeat_timestamp_seconds{{{selector}}})"
    return f"((\n{state_of(selector)}\n) - on (node_id) {heartbeat} / 1e10)"


def _workers_table(title: str, most: int, rank: str, selector: str, *, width: int, height: int) -> table.Panel:
    shown = f"topk({most}, {rank})"
    commit = f'label_replace(amp_worker_info{{{selector}}}, "commit", "$1", "commit_sha", "(.{{1,12}}).*")'
    age = f"min by (node_id) (amp_worker_heartbeat_age_seconds{{{selector}}})"
    started = f"max by (node_id) (amp_worker_registered_timestamp_seconds{{{selector}}}) * 1000"
    panel = (
        table_panel(
            title,
            f"At most {most} workers, the worst first: failed, lost, stale, stuck, active, stopped. A click on a "
            "worker opens its dashboard. Stopped and failed workers have no heartbeat age."
            + (SICK_ARE_ENOUGH if most == WORST else NEEDS_ALL),
            tabular(
                f"{shown}\n* on (node_id) group_left (version, commit) max by (node_id, version, commit) ({commit})",
                "A",
            ),
            tabular(f"{age}\nand on (node_id) {shown}", "B"),
            tabular(f"{started}\nand on (node_id) {shown}", "C"),
            unit="none",
            width=width,
            height=height,
        )
        .override_by_name("State", state_column())
        .override_by_name("Worker", [models.DynamicConfigValue(id_val="custom.minWidth", value=220)])
        .override_by_name("Heartbeat age", column("s", 120))
        .override_by_name("Started", column("dateTimeFromNow", 130))
        .sort_by([descending("State")])
        .no_value(f"No {'worker' if most > WORST else 'unhealthy worker'}, or the state is unknown")
    )
    return columns(
        panel,
        {
            "Value #A": "State",
            "node_id": "Worker",
            "Value #B": "Heartbeat age",
            "Value #C": "Started",
            "version": "Version",
            "commit": "Commit",
        },
    )


def _heartbeats(board: dashboard.Dashboard) -> dashboard.Dashboard:
    buckets = f"max by (le) (amp_fleet_heartbeat_age_seconds_bucket{{{JOB}}})"
    states = timeseries_panel(
        "Workers by state",
        "How many workers were in each state. In a gap, the state is unknown.",
        query(f"max by (state) ({of_one_exporter(f'amp_workers{{{JOB}}}')})", "{{state}}"),
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
                "Oldest heartbeat",
                "Of the active, stuck, stale and lost workers.",
                query(f"max(amp_fleet_oldest_heartbeat_age_seconds{{{JOB}}})", "oldest heartbeat"),
                unit="s",
                height=9,
            )
        )
        .with_panel(stacked(states))
        .with_panel(
            timeline_panel(
                "Availability and worst state",
                "Whether exporter and metadata DB answered, and the worst state that a worker was in. In a gap, the "
                "state is unknown.",
                query(f"max(up{{{JOB}}})", "exporter", "A"),
                query(f"max(amp_metadata_db_up{{{JOB}}})", "metadata DB", "B"),
                query(
                    f"7 * ({workers('active')} == 0) ^ 0\nor 6 * ({workers('failed')} > 0) ^ 0\n"
                    f"or 5 * ({workers('lost')} > 0) ^ 0\nor 4 * ({workers('stale')} > 0) ^ 0\n"
                    f"or 3 * ({workers('stuck')} > 0) ^ 0\nor 2 * {workers('active')} ^ 0",
                    "workers",
                    "C",
                ),
                texts={
                    0: ("unavailable", RED),
                    1: ("available", GREEN),
                    2: ("none unhealthy", GREEN),
                    3: ("some stuck", PURPLE),
                    4: ("some stale", ORANGE),
                    5: ("some lost", RED),
                    6: ("some failed", DARK_RED),
                    7: ("none active", GREY),
                },
                unit="none",
            )
        )
    )


def _versions(board: dashboard.Dashboard) -> dashboard.Dashboard:
    by_version = f"max by (version) (amp_workers_by_version{{{JOB}}})"
    return board.with_row(dashboard.Row("Versions")).with_panel(
        stacked(
            timeseries_panel(
                "Workers by version",
                "Active and stale workers of each version: how a rollout goes.",
                query(by_version, "{{version}}"),
                unit="none",
            )
        )
    )


def _workers(board: dashboard.Dashboard) -> dashboard.Dashboard:
    silence = f"max by (node_id) (max_over_time({record.SILENCE}{{{JOB}}}[$__range] @ end()))"
    longest = f"topk(20, {silence})"
    restarts = f"max by (node_id) (changes(amp_worker_registered_timestamp_seconds{{{JOB}}}[$__rate_interval]))"
    none_silent = "No worker was silent in this time range, or the rules are not loaded"
    return (
        board.with_row(dashboard.Row("Workers"))
        .with_panel(
            timeline_panel(
                "The twenty longest silent",
                "The state over time of the workers that were silent for longest in this time range." + SICK_ARE_ENOUGH,
                query(f"({state_of(JOB)})\nand on (node_id) {longest}", "{{node_id}}"),
                texts=STATE_TEXTS,
                unit="none",
                height=10,
            ).no_value(none_silent)
        )
        .with_panel(
            timeseries_panel(
                "The ten longest silent, heartbeat age",
                "The age of the last heartbeat of the workers that were silent for longest in this time range. "
                "Negative where it lies in the future." + SICK_ARE_ENOUGH,
                query(
                    f"min by (node_id) (amp_worker_heartbeat_age_seconds{{{JOB}}})\n"
                    f"and on (node_id) topk(10, {silence})",
                    "{{node_id}}",
                ),
                unit="s",
                height=10,
                signed=True,
            ).no_value(none_silent)
        )
        .with_panel(
            timeseries_panel(
                "Restarts",
                "How often workers registered again within each interval of the graph, a minute at least." + NEEDS_ALL,
                query(f"sum({restarts})", "restarts"),
                unit="none",
                width=24,
                height=6,
            ).interval("1m")
        )
        .with_panel(_workers_table("Every worker", MOST, _rank(SEARCH), SEARCH, width=24, height=14))
    )
