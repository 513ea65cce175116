"""The recording rules: what is known of a fleet, and what was last known while nothing is.

While the exporter or the metadata DB is unavailable, every worker family is absent. An alert on these families would
resolve, although the state of the workers is unknown. Therefore each rule *holds*: it keeps its last value until the
fleet has settled again. New values count only after that.

Every rule works at any scrape interval up to 60 s. A window that may contain no sample (`[20s]` at an interval of 60 s)
is only ever used to find a failure, never to prove a success.
"""

from dataclasses import dataclass

from grafana.builder.durations import promql
from grafana.builder.thresholds import (
    ADMIN_JOBS,
    AHEAD_SECONDS,
    CONFIRMED_WITHIN,
    FAILED_FOR,
    FORGET_JOB,
    JOBS,
    LOSS_SECONDS,
    SCRAPE_INTERVAL,
    SETTLING,
    SILENT_AFTER_SCRAPE_SECONDS,
    SILENT_BUCKETS,
)

SELECTED = f'job=~"{JOBS}"'

EXPORTERS_UP = "job:amp_exporters_up:sum"
INTERVAL = "job:amp_scrape_interval_seconds:max"
METADATA_DB_UP = "job:amp_metadata_db_up:max"
REPLAY_LAG = "job:amp_metadata_db_replay_lag_seconds:max"
SETTLED = "job:amp_fleet_settled:max"
SILENCE = "job_node_id:amp_worker_silence_seconds:min"
AHEAD = "job_node_id:amp_worker_ahead_seconds:max"
FAILED = "job_node_id:amp_worker_failed:max"
STUCK = "job_node_id:amp_worker_stuck:max"
DOWN = "job:amp_workers_down:count"
DOWN_RATIO = "job:amp_workers_down:ratio"
ACTIVE = "job:amp_workers_active:max"
UNHEALTHY = "job:amp_workers_unhealthy:max"
ROWS = "job:amp_workers:max"
VERSIONS = "job:amp_versions:count"
THRESHOLD_DIFFERENCE = "job:amp_threshold_difference_seconds:max"
STRANDED = "job:amp_jobs_stranded:max"
NOT_PICKED_UP = "job:amp_jobs_oldest_not_picked_up_age_seconds:max"
JOBS_IN_ERROR = "job:amp_jobs_error:max"
LAST_FATAL = "job:amp_jobs_last_fatal_timestamp_seconds:max"


@dataclass(frozen=True)
class RecordingRule:
    record: str
    help: str
    expr: str


_DB_UP = f"amp_metadata_db_up{{{SELECTED}}}"
_FLEET_KNOWN = f"max by (job) ({_DB_UP}) == 1"
_JOBS_KNOWN = f"group by (job) (amp_jobs{{{SELECTED}}})"


def _held(record: str, help_text: str, value: str, known: str = _FLEET_KNOWN) -> RecordingRule:
    """Return a rule for a value that counts while the fleet has settled, and keeps its last value until then.

    known: has a series for a job whose `value` is known; a known value that is absent ends the series.
    """
    return RecordingRule(
        record,
        help_text,
        f"({value})\nand on (job) {SETTLED}\nor\n"
        f"({record} and on (job) {EXPORTERS_UP})\n"
        # A scrape that times out is written late, with the time at which it began: between two rules of the same
        # evaluation, the worker families may end. Therefore the query that misses them checks whether the other
        # families of their scrape are present.
        f"unless on (job) ({SETTLED} and on (job) ({known}))",
    )


def _of_one_exporter(series: str) -> str:
    """Return the sum over a family, from the exporter that reports the most: never from two exporters at once."""
    return f"max by (job) (sum by (job, instance) ({series}))"


def _younger(seconds: int) -> str:
    """Workers whose heartbeat is at most so many seconds from now."""
    return f'max by (job) (amp_fleet_heartbeat_age_seconds_bucket{{{SELECTED}, le="{seconds}.0"}})'


_FAILED_RECENTLY = (
    f"max by (job) (\n    min_over_time(amp_workers_failed_recently{{{SELECTED}}}[{promql(FAILED_FOR)}])\n"
    f"    or amp_workers_failed_recently{{{SELECTED}}} or 0 * {_DB_UP}\n  )"
)
"""For 10 s, where there are so many scrapes; 0 for an exporter without this family."""

_THRESHOLDS = (
    f"amp_exporter_threshold_seconds{{{SELECTED}}}\n"
    f'    or label_replace(label_replace(amp_admin_threshold_seconds{{job=~"{ADMIN_JOBS}"}}, '
    '"job", "$1", "job", "admin-(.+)"), "of", "admin", "", "")'
)
"""Those of the exporters and Admin APIs of a fleet. With a label of their own: both may have one `instance`."""

RECORDING_RULES = (
    RecordingRule(
        EXPORTERS_UP,
        f"Exporters of a fleet that answer. 0 for {promql(FORGET_JOB)} after the last one was scraped. "
        f"0 for the job amp where Prometheus has known no exporter for {promql(FORGET_JOB)}.",
        f"sum by (job) (up{{{SELECTED}}})\nor\n"
        f"0 * count by (job) (count_over_time(up{{{SELECTED}}}[{promql(FORGET_JOB)}]))\nor\n"
        f'label_replace(0 * absent(count_over_time(up{{{SELECTED}}}[{promql(FORGET_JOB)}])), "job", "amp", "", "")',
    ),
    RecordingRule(
        INTERVAL,
        "Seconds between the last two scrapes of an exporter.",
        f"max by (job) (timestamp(up{{{SELECTED}}}) - timestamp(up{{{SELECTED}}} offset {promql(SCRAPE_INTERVAL)})"
        f" > 0)\nor\n({INTERVAL} and on (job) {EXPORTERS_UP})",
    ),
    RecordingRule(
        METADATA_DB_UP,
        "Whether the metadata DB answers any exporter. A failure counts once two scrapes have shown it; while no "
        "exporter answers, the last known value.",
        f"max by (job) (\n  {_DB_UP}\n  unless (\n    {_DB_UP} == 0\n"
        f"    and count_over_time({_DB_UP}[{promql(CONFIRMED_WITHIN)}])"
        f" - sum_over_time({_DB_UP}[{promql(CONFIRMED_WITHIN)}]) < 2\n  )\n)\nor\n"
        f"({METADATA_DB_UP} and on (job) {EXPORTERS_UP})",
    ),
    RecordingRule(
        SETTLED,
        f"1 for a fleet with an exporter that has answered, with the metadata DB's answers, for {promql(SETTLING)} "
        "and in two scrapes at least.",
        "max by (job) (\n"
        # The last scrape succeeded, and no recent one failed;
        f"  {_DB_UP} == 1\n"
        f"  unless min_over_time({_DB_UP}[{promql(SETTLING)}]) == 0\n"
        f"  unless on (job, instance) min_over_time(up{{{SELECTED}}}[{promql(SETTLING)}]) == 0\n"
        "  and on (job, instance) (\n"
        # and either the fleet has settled before, or an earlier scrape succeeded too.
        f"    up{{{SELECTED}}} and on (job) {SETTLED}\n"
        f"    or {_DB_UP} offset {promql(SETTLING)} == 1"
        f" and timestamp({_DB_UP}) > timestamp({_DB_UP} offset {promql(SETTLING)})\n"
        "  )\n"
        ")",
    ),
    _held(
        REPLAY_LAG,
        "By how many seconds a metadata DB that is a standby lags behind its primary.",
        f"max by (job) (amp_metadata_db_replay_lag_seconds{{{SELECTED}}})",
    ),
    _held(
        SILENCE,
        f"The distance of each silent worker's heartbeat from now, past or future: where that is more than the scrape "
        f"interval and {SILENT_AFTER_SCRAPE_SECONDS} s (8 s at an interval of 5 s). Other workers have no series.",
        f"min by (job, node_id) (abs(amp_worker_heartbeat_age_seconds{{{SELECTED}}}))\n"
        f"> on (job) group_left () (min_over_time({INTERVAL}[30s]) + {SILENT_AFTER_SCRAPE_SECONDS})",
    ),
    _held(
        AHEAD,
        f"By how much a heartbeat lies in the future, of each worker where that is more than {AHEAD_SECONDS} s.",
        f"-min by (job, node_id) (amp_worker_heartbeat_age_seconds{{{SELECTED}}}) > {AHEAD_SECONDS}",
    ),
    _held(
        FAILED,
        "1 for each worker that failed. With a scrape interval above 10 s, once two scrapes have shown it: a worker "
        "that is restarted at once may be in one of them.",
        "max by (job, node_id) (\n"
        f"  amp_worker_failed{{{SELECTED}}}\n"
        "  unless on (job, node_id) (\n"
        # One scrape of each exporter, whatever the reason was.
        "    max by (job, node_id) (sum by (job, instance, node_id) (\n"
        f"      count_over_time(amp_worker_failed{{{SELECTED}}}[{promql(CONFIRMED_WITHIN)}])\n    )) == 1\n"
        f"    and on (job) {INTERVAL} > {FAILED_FOR.seconds}\n"
        f"    unless on (job, node_id) {FAILED}\n  )\n)",
    ),
    _held(
        STUCK,
        "1 for each worker that sends heartbeats and broke its promise to report progress.",
        f"max by (job, node_id) (amp_worker_stuck{{{SELECTED}}})",
    ),
    _held(
        DOWN,
        "Workers that failed or fell silent within the last hour. Where workers have no series of their own, silent "
        "means a heartbeat older than the first bucket above that age.",
        f"(\n  count by (job) ({SILENCE} <= {LOSS_SECONDS})\n"
        f"  or 0 * group by (job) (amp_worker_heartbeat_age_seconds{{{SELECTED}}})\n  or {_younger(LOSS_SECONDS)} - (\n"
        + "".join(
            f"    {_younger(bucket)} and on (job) {INTERVAL} <= {bucket - SILENT_AFTER_SCRAPE_SECONDS}\n    or "
            for bucket in SILENT_BUCKETS[:-1]
        )
        + f"{_younger(SILENT_BUCKETS[-1])}\n  )\n) + {_FAILED_RECENTLY}",
    ),
    _held(
        DOWN_RATIO,
        "The same as a share of all workers that had a heartbeat or failed within the last hour.",
        f"{DOWN} / (\n  {_younger(LOSS_SECONDS)} + {_FAILED_RECENTLY} > 0\n)",
    ),
    _held(ACTIVE, "Active workers.", f'max by (job) (amp_workers{{{SELECTED}, state="active"}})'),
    _held(
        UNHEALTHY,
        "Stuck, stale, lost and failed workers.",
        _of_one_exporter(f'amp_workers{{{SELECTED}, state=~"stuck|stale|lost|failed"}}'),
    ),
    _held(ROWS, "Rows of the `workers` table.", _of_one_exporter(f"amp_workers{{{SELECTED}}}")),
    _held(
        VERSIONS,
        "How many versions active, stuck and stale workers run.",
        f"count by (job) (max by (job, version) (amp_workers_by_version{{{SELECTED}}}) > 0)",
    ),
    RecordingRule(
        THRESHOLD_DIFFERENCE,
        "The largest difference between the exporters and Admin APIs of a fleet in one of the thresholds of states.",
        f"max by (job) (\n  max by (job, threshold) (\n    {_THRESHOLDS}\n  )\n"
        f"  - min by (job, threshold) (\n    {_THRESHOLDS}\n  )\n)",
    ),
    _held(
        STRANDED,
        "Jobs that no worker can run: their worker is lost, failed, stopped, forgotten or missing.",
        _of_one_exporter(f"amp_jobs_stranded{{{SELECTED}}}"),
        _JOBS_KNOWN,
    ),
    _held(
        NOT_PICKED_UP,
        "For how long the oldest scheduled job has been waiting for its active worker.",
        f"max by (job) (amp_jobs_oldest_not_picked_up_age_seconds{{{SELECTED}}})",
        _JOBS_KNOWN,
    ),
    _held(
        JOBS_IN_ERROR,
        "Jobs in the status ERROR, which their worker retries.",
        f'max by (job) (amp_jobs{{{SELECTED}, status="error"}})',
        _JOBS_KNOWN,
    ),
    _held(
        LAST_FATAL,
        "When a job last became FATAL, as Unix time.",
        f"max by (job) (amp_jobs_last_fatal_timestamp_seconds{{{SELECTED}}})",
        _JOBS_KNOWN,
    ),
)
"""In the order in which they build on each other."""
