"""The fleet: its workers by state, their heartbeats, jobs and versions, and those that need a look."""

from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard, table
from grafana_foundation_sdk.models import dashboard as models

from grafana.builder import recording_rules as record
from grafana.builder.dashboards.annotations import alerts
from grafana.builder.dashboards.frame import framed
from grafana.builder.dashboards.panels import (
    AGE_BOUNDS,
    DARK_RED,
    GREEN,
    GREY,
    JOB,
    JOB_AND_ADMIN,
    NEEDS_ALL,
    NEUTRAL,
    ORANGE,
    PURPLE,
    RANKS,
    RED,
    SECONDS,
    STATE_COLOURS,
    STATE_TEXTS,
    UNHEALTHY_ARE_ENOUGH,
    age_bounds,
    alert_column,
    ascending,
    column,
    columns,
    descending,
    exporters_panel,
    fixed,
    heatmap_panel,
    instant,
    linked,
    linked_to_workers,
    metadata_db_panel,
    of_one_exporter,
    query,
    stacked,
    stat_panel,
    state_column,
    state_of,
    table_panel,
    tabular,
    threshold,
    thresholds,
    timeline_panel,
    timeseries_panel,
    with_bounds,
)
from grafana.builder.links import FLEET_UID, Links
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

EVERY_WORKER_ID = 100
"""The panel of all workers, to which the counts by state lead."""


def fleet_dashboard(links: Links) -> dashboard.Dashboard:
    board = (
        framed(
            "Amp / Fleet",
            FLEET_UID,
            "All workers of one metadata DB: their states, heartbeats, jobs and versions, and which need a look.",
        )
        .with_variable(dashboard.TextBoxVariable("search").label("Node ids with").default_value(""))
        .with_variable(_state_variable())
        .annotation(alerts(f'scope!="worker", {JOB_AND_ADMIN}'))
    )
    return _every_worker(_jobs(_versions(_unhealthy(_over_time(_now(board, links))))))


_ANY_STATE = "> 0"
_IN_STATE = {state: f"> {number - 1} <= {number}" for number, state in RANKS.items()}


def _state_variable() -> dashboard.CustomVariable:
    """Return the variable whose value compares a rank."""
    options = {"any": _ANY_STATE} | _IN_STATE
    return (
        dashboard.CustomVariable("state")
        .label("State")
        .values(",".join(f"{text} : {value}" for text, value in options.items()))
        .current(models.VariableOption(selected=True, text="any", value=_ANY_STATE))
        .allow_custom_value(False)
        .options([models.VariableOption(value == _ANY_STATE, text, value) for text, value in options.items()])
    )


def _workers_link(state: str) -> str:
    """Return a link to the table of the workers in a state."""
    return (
        f"/d/{FLEET_UID}?var-datasource=${{datasource}}&var-job=${{job}}&var-state={quote(_IN_STATE[state])}"
        f"&viewPanel={EVERY_WORKER_ID}&${{__url_time_range}}"
    )


def _now(board: dashboard.Dashboard, links: Links) -> dashboard.Dashboard:
    board = board.with_row(dashboard.Row("Now")).with_panel(
        stat_panel(
            "All workers",
            "Rows of the workers table: the sum of all states.",
            instant(f"sum{of_one_exporter(f'amp_workers{{{JOB}}}')}", "workers"),
            unit="none",
        )
    )
    for state, meaning in _STATE_MEANS.items():
        colour = STATE_COLOURS[state]
        family = f'amp_workers{{{JOB}, state="{state}"}}'
        panel = stat_panel(state.capitalize(), meaning, instant(f"max{of_one_exporter(family)}", state), unit="none")
        # A fleet without an active worker is a problem; of the other states, one worker is worth the colour.
        steps = [(None, NEUTRAL), (0, RED), (1, colour)] if state == "active" else [(None, NEUTRAL), (1, colour)]
        if state in _IN_STATE:
            panel = linked(panel, f"The {state} workers", _workers_link(state))
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
                        f'count by (alertname, severity) (ALERTS{{{JOB_AND_ADMIN}, alertstate="firing"}})\n'
                        "or label_replace(label_replace("
                        f'absent({record.EXPORTERS_UP}{{{JOB}}}), "alertname", "The rules are not loaded", "", ""), '
                        '"severity", "unknown", "", "")'
                    ),
                    unit="none",
                    width=9,
                    height=11,
                )
                .override_by_name("Alert", alert_column(links.runbook("${__value.text}")))
                .override_by_name("Severity", column("none", 100))
                .override_by_name("Series", column("none", 80))
                .sort_by([ascending("Severity")])
                .no_value("No alert fires"),
                {"alertname": "Alert", "severity": "Severity", "Value": "Series"},
                join=False,
            )
        )
        .with_panel(_workers_table("Worst workers", WORST, _rank(_UNHEALTHY, JOB), JOB, width=15, height=11))
    )


_UNHEALTHY = (
    f"(\n6 * max by (node_id) ({record.FAILED}{{{JOB}}})\n"
    f"or 5 * (max by (node_id) ({record.SILENCE}{{{JOB}}}) > {threshold('lost')}) ^ 0\n"
    f"or 4 * (max by (node_id) ({record.SILENCE}{{{JOB}}}) > {threshold('stale')}) ^ 0\n"
    f"or 3 * max by (node_id) ({record.STUCK}{{{JOB}}})\n"
    f")\nand on () max(amp_metadata_db_up{{{JOB}}}) == 1"
)
"""The state of each unhealthy worker, as a number of RANKS, from series that only unhealthy workers have.

A query for the states of all workers takes seconds where there are 10,000, and minutes over a time range.
"""


def _rank(states: str, selector: str) -> str:
    """Return a number of each worker: the larger, the worse its state, and the older its heartbeat."""
    heartbeat = f"max by (node_id) (amp_worker_heartbeat_timestamp_seconds{{{selector}}})"
    return f"((\n{states}\n) - on (node_id) {heartbeat} / 1e10)"


def _workers_table(title: str, most: int, rank: str, selector: str, *, width: int, height: int) -> table.Panel:
    shown = f"topk({most}, {rank})"
    commit = f'label_replace(amp_worker_info{{{selector}}}, "commit", "$1", "commit_sha", "(.{{1,12}}).*")'
    shown_columns = {
        "Value #A": "State",
        "node_id": "Worker",
        "Value #B": "Heartbeat age",
        "Value #C": "Started",
        "version": "Version",
    }
    age = f"min by (node_id) (amp_worker_heartbeat_age_seconds{{{selector}}} and on (node_id) {shown})"
    started = (
        f"max by (node_id) (amp_worker_registered_timestamp_seconds{{{selector}}} and on (node_id) {shown}) * 1000"
    )
    panel = (
        table_panel(
            title,
            f"At most {most} workers, the worst first: failed, lost, stale, stuck, active, stopped. A click on a "
            "worker opens its dashboard. Stopped and failed workers have no heartbeat age."
            + (UNHEALTHY_ARE_ENOUGH if most == WORST else NEEDS_ALL),
            tabular(
                f"{shown}\n* on (node_id) group_left (version, commit) max by (node_id, version, commit) ({commit})",
                "A",
            ),
            tabular(age, "B"),
            tabular(started, "C"),
            unit="none",
            width=width,
            height=height,
        )
        .override_by_name("State", state_column())
        .override_by_name("Worker", [models.DynamicConfigValue(id_val="custom.minWidth", value=220)])
        .override_by_name("Heartbeat age", column("s", 140))
        .override_by_name("Started", column("dateTimeFromNow", 130))
        .sort_by([descending("State")])
        .no_value(
            f"No {'worker' if most > WORST else 'unhealthy worker'}, the state is unknown, or the exporter publishes "
            "no series of workers"
        )
    )
    return columns(panel, shown_columns | ({"commit": "Commit"} if most > WORST else {}))


def _over_time(board: dashboard.Dashboard) -> dashboard.Dashboard:
    buckets = f"sum by (le) {of_one_exporter(f'amp_fleet_heartbeat_age_seconds_bucket{{{JOB}}}')}"
    states = timeseries_panel(
        "Workers by state",
        "How many workers were in each state. In a gap, the state is unknown.",
        query(f"max by (state) {of_one_exporter(f'amp_workers{{{JOB}}}')}", "{{state}}"),
        unit="none",
    )
    for state, colour in STATE_COLOURS.items():
        states = states.override_by_name(state, [fixed(colour)])

    def workers(state: str) -> str:
        return f'max(amp_workers{{{JOB}, state="{state}"}})'

    return (
        board.with_row(dashboard.Row("Over time"))
        .with_panel(stacked(states))
        .with_panel(
            timeline_panel(
                "Availability and worst state",
                "Whether an exporter and the metadata DB answered, and the worst state that a worker was in. In a gap, "
                "the state is unknown.",
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
            )
        )
        .with_panel(
            heatmap_panel(
                "Heartbeat ages",
                "How many active, stuck, stale and lost workers had a heartbeat of which age. A healthy fleet is one "
                "bright line at the bottom.",
                query(buckets, "{{le}}"),
                width=8,
            )
        )
        .with_panel(
            with_bounds(
                timeseries_panel(
                    "Oldest heartbeat",
                    "Of the active, stuck, stale and lost workers. The dashed lines are the exporter's --stale-after "
                    "and --lost-after.",
                    query(f"max(amp_fleet_oldest_heartbeat_age_seconds{{{JOB}}})", "oldest heartbeat"),
                    age_bounds(),
                    unit=SECONDS,
                    width=8,
                    height=9,
                ),
                AGE_BOUNDS,
            )
        )
        .with_panel(
            timeseries_panel(
                "Workers with an old heartbeat",
                "How many active, stuck, stale and lost workers had a heartbeat that was older than each age.",
                *(
                    query(
                        f"max{of_one_exporter(f'amp_fleet_heartbeat_age_seconds_gcount{{{JOB}}}')} - "
                        f"max{of_one_exporter(_bucket(seconds))}",
                        f"over {text}",
                        ref_id,
                    )
                    for ref_id, (seconds, text) in zip("ABCD", _OLD.items(), strict=True)
                ),
                unit="none",
                width=8,
                height=9,
            )
        )
    )


_OLD = {10: "10 s", 60: "1 min", 300: "5 min", 3600: "1 h"}
"""Bounds of the histogram of heartbeat ages."""


def _bucket(seconds: int) -> str:
    return f'amp_fleet_heartbeat_age_seconds_bucket{{{JOB}, le="{seconds}.0"}}'


def _jobs(board: dashboard.Dashboard) -> dashboard.Dashboard:
    unknown = "Jobs are unknown: the metadata DB is not Amp's own, or its jobs cannot be read"
    return (
        board.with_row(dashboard.Row("Jobs, where the metadata DB is Amp's own"))
        .with_panel(
            timeseries_panel(
                "Jobs by status",
                "Unfinished jobs, and those that became FATAL.",
                query(f"max by (status) {of_one_exporter(f'amp_jobs{{{JOB}}}')}", "{{status}}"),
                unit="none",
                width=8,
            ).no_value(unknown)
        )
        .with_panel(
            timeseries_panel(
                "Stranded jobs by the state of their worker",
                "Jobs that no worker runs: a worker has to start under the same node id, or the job has to be deployed "
                "again.",
                query(f"max by (worker_state) {of_one_exporter(f'amp_jobs_stranded{{{JOB}}}')}", "{{worker_state}}"),
                unit="none",
                width=8,
            ).no_value(unknown)
        )
        .with_panel(
            columns(
                table_panel(
                    "Workers with the most stranded jobs",
                    "At most ten. A click on a worker opens its dashboard.",
                    tabular(
                        f"max by (node_id, worker_state) {of_one_exporter(f'amp_jobs_stranded_by_worker{{{JOB}}}')}"
                    ),
                    unit="none",
                    width=8,
                )
                .override_by_name("Worker", [models.DynamicConfigValue(id_val="custom.minWidth", value=150)])
                .override_by_name("State", column("none", 100))
                .override_by_name("Jobs", column("none", 80))
                .sort_by([descending("Jobs")])
                .no_value("No job is stranded, or jobs are unknown"),
                {"node_id": "Worker", "worker_state": "State", "Value": "Jobs"},
                join=False,
            )
        )
    )


def _versions(board: dashboard.Dashboard) -> dashboard.Dashboard:
    by_version = f"sum by (version) {of_one_exporter(f'amp_workers_by_version{{{JOB}}}')}"
    restarts = f"max by (node_id) (changes(amp_worker_registered_timestamp_seconds{{{JOB}}}[$__rate_interval]))"
    with_series = of_one_exporter(f"amp_worker_registered_timestamp_seconds{{{JOB}}}")
    known = of_one_exporter(f'amp_workers{{{JOB}, state!="forgotten"}}')
    has_every_worker = f"count{with_series} >= sum{known}"
    return (
        board.with_row(dashboard.Row("Versions and restarts"))
        .with_panel(
            stacked(
                timeseries_panel(
                    "Workers by version",
                    "Active, stuck and stale workers of each version: how a rollout proceeds.",
                    query(by_version, "{{version}}"),
                    unit="none",
                )
            )
        )
        .with_panel(
            timeseries_panel(
                "Restarts",
                "How often workers registered again within each interval of the graph, a minute at least." + NEEDS_ALL,
                query(f"sum({restarts})\nand on () {has_every_worker}", "restarts"),
                unit="none",
            )
            .interval("1m")
            .no_value("Unknown: the exporter does not run with --collector.workers=all")
        )
    )


_UNHEALTHY_TEXTS = {number: text for number, text in STATE_TEXTS.items() if number > 2} | {2: ("not unhealthy", GREY)}


def _unhealthy(board: dashboard.Dashboard) -> dashboard.Dashboard:
    def most_of_range(series: str) -> str:
        return f"max by (node_id) (max_over_time({series}{{{JOB}}}[$__range] @ end()))"

    unhealthy = (
        f"({most_of_range(record.SILENCE)}\nor 0.2 * {most_of_range(record.FAILED)}\n"
        f"or 0.1 * {most_of_range(record.STUCK)})"
    )
    shown = f"topk(20, {unhealthy})"
    known = f"and on () max(amp_metadata_db_up{{{JOB}}}) == 1"
    no_worker = (
        "No worker {} in this time range, the rules are not loaded, or the exporter publishes no series of workers"
    )
    return (
        board.with_row(dashboard.Row("Unhealthy workers"))
        .with_panel(
            linked_to_workers(
                timeline_panel(
                    "Unhealthy workers, state over time",
                    "The twenty workers that were silent for longest in this time range, then those that failed or "
                    "were stuck." + UNHEALTHY_ARE_ENOUGH,
                    query(f"({_UNHEALTHY}\nor 2 * {shown} ^ 0)\nand on (node_id) {shown}\n{known}", "{{node_id}}"),
                    texts=_UNHEALTHY_TEXTS,
                    height=12,
                ).no_value(no_worker.format("was unhealthy"))
            )
        )
        .with_panel(
            with_bounds(
                linked_to_workers(
                    timeseries_panel(
                        "Longest silent workers, heartbeat age over time",
                        "The ten workers that were silent for longest in this time range, while they were silent. "
                        "Negative where the heartbeat lies in the future. The dashed lines are the exporter's "
                        "--stale-after and --lost-after." + UNHEALTHY_ARE_ENOUGH,
                        query(
                            f"(-max by (node_id) ({record.AHEAD}{{{JOB}}})\n"
                            f"or max by (node_id) ({record.SILENCE}{{{JOB}}}))\n"
                            f"and on (node_id) topk(10, {most_of_range(record.SILENCE)})\n{known}",
                            "{{node_id}}",
                        ),
                        age_bounds(f"\nand on () group({most_of_range(record.SILENCE)})"),
                        unit=SECONDS,
                        height=12,
                        signed=True,
                    ).no_value(no_worker.format("was silent"))
                ),
                AGE_BOUNDS,
            )
        )
    )


def _every_worker(board: dashboard.Dashboard) -> dashboard.Dashboard:
    rank = f"{_rank(state_of(SEARCH), SEARCH)} $state"
    return board.with_row(dashboard.Row("Workers")).with_panel(
        _workers_table(f"Workers, worst first (at most {MOST})", MOST, rank, SEARCH, width=24, height=14).id(
            EVERY_WORKER_ID
        )
    )
