"""Every metric family that the exporter adds to prometheus-client's own, in one table.

`docs/metrics.md` has the same list for people; a test holds the two and `/metrics` together.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A metric family: what is known of it before there is a sample."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()


METADATA_DB_UP = Family(
    "amp_metadata_db_up",
    "gauge",
    "Whether the metadata DB answered this scrape: 1 if so. At 0, all families of the fleet, of jobs and of workers "
    "are absent: their values are unknown.",
)

METADATA_DB_REPLAY_LAG = Family(
    "amp_metadata_db_replay_lag_seconds",
    "gauge",
    "Seconds by which a metadata DB that is a standby lags behind its primary; 0 if all that it received is replayed. "
    "Absent on a primary.",
)

WORKERS = Family(
    "amp_workers",
    "gauge",
    "Workers in the metadata DB, by state. The sum is the number of rows.",
    ("state",),
)

WORKERS_BY_VERSION = Family(
    "amp_workers_by_version",
    "gauge",
    "Active, stuck and stale workers, by the version that they registered with.",
    ("version",),
)

FLEET_HEARTBEAT_AGE = Family(
    "amp_fleet_heartbeat_age_seconds",
    "gaugehistogram",
    "Seconds between now and the last heartbeat, past or future, of all active, stuck, stale and lost workers.",
    ("le",),
)

FLEET_OLDEST_HEARTBEAT_AGE = Family(
    "amp_fleet_oldest_heartbeat_age_seconds",
    "gauge",
    "The largest of these ages, past or future. Absent if no worker is active, stuck, stale or lost.",
)

WORKERS_FAILED_RECENTLY = Family(
    "amp_workers_failed_recently", "gauge", "Workers that failed at most 3,600 seconds ago and did not start again."
)

JOBS = Family(
    "amp_jobs",
    "gauge",
    "Jobs of Amp that are not finished, by status, and those that are fatal. Unknown statuses count as other. Absent, "
    "as all amp_jobs* families and amp_worker_jobs are, where jobs are unknown.",
    ("status",),
)

JOBS_STRANDED = Family(
    "amp_jobs_stranded",
    "gauge",
    "Jobs that stand still because their worker is gone, by the state of the worker; missing if it has no row.",
    ("worker_state",),
)

JOBS_STRANDED_BY_WORKER = Family(
    "amp_jobs_stranded_by_worker",
    "gauge",
    "Stranded jobs of the ten workers that have the most.",
    ("node_id", "worker_state"),
)

JOBS_OLDEST_NOT_PICKED_UP_AGE = Family(
    "amp_jobs_oldest_not_picked_up_age_seconds",
    "gauge",
    "Seconds for which the oldest scheduled job of an active worker has been waiting. Absent if there is none.",
)

JOBS_LAST_FATAL_TIMESTAMP = Family(
    "amp_jobs_last_fatal_timestamp_seconds",
    "gauge",
    "Unix time at which the last job became fatal. Absent if there is none.",
)

FLEET = (
    METADATA_DB_UP,
    METADATA_DB_REPLAY_LAG,
    WORKERS,
    WORKERS_FAILED_RECENTLY,
    WORKERS_BY_VERSION,
    FLEET_HEARTBEAT_AGE,
    FLEET_OLDEST_HEARTBEAT_AGE,
    JOBS,
    JOBS_STRANDED,
    JOBS_STRANDED_BY_WORKER,
    JOBS_OLDEST_NOT_PICKED_UP_AGE,
    JOBS_LAST_FATAL_TIMESTAMP,
)

WORKER_HEARTBEAT_AGE = Family(
    "amp_worker_heartbeat_age_seconds",
    "gauge",
    "Seconds since the worker's last heartbeat, by the metadata DB's clock. Absent for stopped and failed workers, "
    "which send no heartbeat. Negative if the heartbeat lies in the future.",
    ("node_id",),
)

WORKER_HEARTBEAT_TIMESTAMP = Family(
    "amp_worker_heartbeat_timestamp_seconds", "gauge", "Unix time of the worker's last heartbeat.", ("node_id",)
)

WORKER_REGISTERED_TIMESTAMP = Family(
    "amp_worker_registered_timestamp_seconds",
    "gauge",
    "Unix time of the worker's last registration. A change is a restart.",
    ("node_id",),
)

WORKER_CREATED_TIMESTAMP = Family(
    "amp_worker_created_timestamp_seconds",
    "gauge",
    "Unix time of the first registration under this node id.",
    ("node_id",),
)

WORKER_STOPPED_TIMESTAMP = Family(
    "amp_worker_stopped_timestamp_seconds",
    "gauge",
    "Unix time at which the worker stopped or failed. Only stopped and failed workers have one.",
    ("node_id",),
)

WORKER_INFO = Family(
    "amp_worker_info",
    "gauge",
    "What the worker was built from, as it registered. Always 1; join it on node_id.",
    ("node_id", "version", "commit_sha", "commit_timestamp", "build_date"),
)

WORKER_FAILED = Family(
    "amp_worker_failed",
    "gauge",
    "Why the worker failed. Always 1; only failed workers have one.",
    ("node_id", "reason"),
)

WORKER_EXIT_CODE = Family(
    "amp_worker_exit_code",
    "gauge",
    "Exit code of the worker's program. Only stopped and failed workers that ran a program have one.",
    ("node_id",),
)

WORKER_STUCK = Family(
    "amp_worker_stuck",
    "gauge",
    "1 for a worker that sends heartbeats and does not report the progress that it promised. Only stuck workers have "
    "one.",
    ("node_id",),
)

WORKER_PROGRESS_AGE = Family(
    "amp_worker_progress_age_seconds",
    "gauge",
    "Seconds since the worker last reported progress. Only workers that report progress have one.",
    ("node_id",),
)

WORKER_WATCHDOG = Family(
    "amp_worker_watchdog_seconds",
    "gauge",
    "Seconds within which the worker promised to report progress each time. Only workers with such a promise have one.",
    ("node_id",),
)

WORKER_JOBS = Family(
    "amp_worker_jobs", "gauge", "Jobs of Amp that the worker has and that are not finished.", ("node_id",)
)

WORKER = (
    WORKER_HEARTBEAT_AGE,
    WORKER_HEARTBEAT_TIMESTAMP,
    WORKER_REGISTERED_TIMESTAMP,
    WORKER_CREATED_TIMESTAMP,
    WORKER_STOPPED_TIMESTAMP,
    WORKER_FAILED,
    WORKER_EXIT_CODE,
    WORKER_STUCK,
    WORKER_PROGRESS_AGE,
    WORKER_WATCHDOG,
    WORKER_JOBS,
    WORKER_INFO,
)

BUILD_INFO = Family(
    "amp_exporter_build_info", "gauge", "The exporter's own version. Always 1.", ("version", "python_version")
)

THRESHOLD = Family(
    "amp_exporter_threshold_seconds",
    "gauge",
    "The thresholds of worker states that the exporter runs with; the Admin API's should be the same.",
    ("threshold",),
)

QUERY_DURATION = Family(
    "amp_exporter_query_duration_seconds",
    "histogram",
    "Time that the metadata DB took to answer a scrape's query, successful or not.",
)

SCRAPE_ERRORS = Family(
    "amp_exporter_scrape_errors",
    "counter",
    "Queries for a scrape that failed, by reason.",
    ("reason",),
)

RELOAD_SUCCESSFUL = Family(
    "amp_web_config_last_reload_successful",
    "gauge",
    "Whether the last read of the web configuration file, the files that it names and the token file succeeded.",
)

RELOAD_SUCCESS_TIMESTAMP = Family(
    "amp_web_config_last_reload_success_timestamp_seconds",
    "gauge",
    "Unix time of the last successful read of the web configuration file, the files that it names and the token file.",
)

EXPORTER = (BUILD_INFO, THRESHOLD, QUERY_DURATION, SCRAPE_ERRORS, RELOAD_SUCCESSFUL, RELOAD_SUCCESS_TIMESTAMP)

ALL = (*FLEET, *WORKER, *EXPORTER)
