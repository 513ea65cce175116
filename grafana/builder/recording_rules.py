"""The recording rules: what is known of a fleet, and what was last known while nothing is.

When the exporter or the metadata DB is away, every family of the workers is absent. An alert on them would resolve,
and say that all is well while nobody knows. So each rule *holds*: until the fleet has settled again it keeps its
last value. New values count only once it has.
"""

from dataclasses import dataclass

from grafana.builder.durations import promql
from grafana.builder.thresholds import (
    AHEAD_SECONDS,
    FORGET_JOB,
    JOBS,
    LOSS_SECONDS,
    SETTLING,
    SILENT_BUCKET_SECONDS,
    SILENT_SECONDS,
)

SELECTED = f'job=~"{JOBS}"'

EXPORTERS_UP = "job:amp_exporters_up:sum"
METADATA_DB_UP = "job:amp_metadata_db_up:max"
REPLAY_LAG = "job:amp_metadata_db_replay_lag_seconds:max"
SETTLED = "job:amp_fleet_settled:max"
SILENCE = "job_node_id:amp_worker_silence_seconds:min"
AHEAD = "job_node_id:amp_worker_ahead_seconds:max"
SILENT = "job:amp_workers_silent:count"
SILENT_RATIO = "job:amp_workers_silent:ratio"
ACTIVE = "job:amp_workers_active:max"
VERSIONS = "job:amp_versions:count"


@dataclass(frozen=True)
class RecordingRule:
    record: str
    help: str
    expr: str


def _held(record: str, help_text: str, known: str) -> RecordingRule:
    return RecordingRule(
        record,
        help_text,
        f"({known})\nand on (job) {SETTLED}\nor\n"
        f"({record} and on (job) {EXPORTERS_UP})\n"
        # A scrape that times out is written late, with the time at which it began: between two rules of the same
        # evaluation, the families of the workers may end. So the very query that misses them looks whether the
        # others of their scrape are there.
        f"unless on (job) ({SETTLED} and on (job) (max by (job) (amp_metadata_db_up{{{SELECTED}}}) == 1))",
    )


def _younger(seconds: int) -> str:
    """Workers whose heartbeat is at most so many seconds from now."""
    return f'max by (job) (amp_fleet_heartbeat_age_seconds_bucket{{{SELECTED}, le="{seconds}.0"}})'


RECORDING_RULES = (
    RecordingRule(
        EXPORTERS_UP,
        f"Exporters of a fleet that answer. 0 where there are none, or none any more for up to {promql(FORGET_JOB)}. "
        "Where Prometheus knows of no exporter at all, 0 for the job amp.",
        f"sum by (job) (up{{{SELECTED}}})\nor\n"
        f"0 * count by (job) (count_over_time(up{{{SELECTED}}}[{promql(FORGET_JOB)}]))\nor\n"
        f'label_replace(0 * absent(up{{{SELECTED}}}), "job", "amp", "", "")',
    ),
    RecordingRule(
        METADATA_DB_UP,
        "Whether the metadata DB answers any exporter; what was last known while no exporter answers.",
        f"max by (job) (amp_metadata_db_up{{{SELECTED}}})\nor\n({METADATA_DB_UP} and on (job) {EXPORTERS_UP})",
    ),
    RecordingRule(
        SETTLED,
        f"1 for a fleet with an exporter that answers, and has answered from the metadata DB for {promql(SETTLING)}.",
        "max by (job) (\n"
        # Now; then; and without a failure in between.
        f"  amp_metadata_db_up{{{SELECTED}}}\n"
        f"  * amp_metadata_db_up{{{SELECTED}}} offset {promql(SETTLING)}\n"
        f"  * min_over_time(amp_metadata_db_up{{{SELECTED}}}[{promql(SETTLING)}])\n"
        f"  * on (job, instance) min_over_time(up{{{SELECTED}}}[{promql(SETTLING)}])\n"
        ") == 1",
    ),
    _held(
        REPLAY_LAG,
        "By how many seconds a metadata DB that is a standby lags behind its primary.",
        f"max by (job) (amp_metadata_db_replay_lag_seconds{{{SELECTED}}})",
    ),
    _held(
        SILENCE,
        f"The distance of each worker's heartbeat from now, past or future, if it is over {SILENT_SECONDS} s. Others "
        "have no series.",
        f"min by (job, node_id) (abs(amp_worker_heartbeat_age_seconds{{{SELECTED}}})) > {SILENT_SECONDS}",
    ),
    _held(
        AHEAD,
        f"By how much a heartbeat lies in the future, of each worker where that is more than {AHEAD_SECONDS} s.",
        f"-min by (job, node_id) (amp_worker_heartbeat_age_seconds{{{SELECTED}}}) > {AHEAD_SECONDS}",
    ),
    _held(
        SILENT,
        f"Workers that fell silent within the last hour: without a heartbeat for more than {SILENT_SECONDS} s "
        f"({SILENT_BUCKET_SECONDS} s where workers have no series of their own) and at most {LOSS_SECONDS} s.",
        f"count by (job) ({SILENCE} <= {LOSS_SECONDS})\nor\n"
        f"{_younger(LOSS_SECONDS)} - {_younger(SILENT_BUCKET_SECONDS)}",
    ),
    _held(
        SILENT_RATIO,
        f"The same as a share of all workers with a heartbeat within the last {LOSS_SECONDS} s.",
        f"{SILENT} / ({_younger(LOSS_SECONDS)} > 0)",
    ),
    _held(ACTIVE, "Active workers.", f'max by (job) (amp_workers{{{SELECTED}, state="active"}})'),
    _held(
        VERSIONS,
        "How many versions active and stale workers run.",
        f"count by (job) (max by (job, version) (amp_workers_by_version{{{SELECTED}}}) > 0)",
    ),
)
"""In the order in which they build on each other."""
