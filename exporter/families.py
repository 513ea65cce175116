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


AGE_BOUNDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""The buckets of `amp_fleet_heartbeat_age_seconds`: the thresholds of the states are among them."""

METADATA_DB_UP = Family(
    "amp_metadata_db_up",
    "gauge",
    "Whether the metadata DB answered this scrape: 1 if so. At 0 every other amp_worker* and amp_fleet* family is "
    "absent, since nothing is known.",
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
    "Active and stale workers, by the version that they registered with.",
    ("version",),
)

FLEET_HEARTBEAT_AGE = Family(
    "amp_fleet_heartbeat_age_seconds",
    "gaugehistogram",
    "Seconds between now and the last heartbeat, past or future, over all active, stale and lost workers.",
    ("le",),
)

FLEET_OLDEST_HEARTBEAT_AGE = Family(
    "amp_fleet_oldest_heartbeat_age_seconds",
    "gauge",
    "The largest of the ages in amp_fleet_heartbeat_age_seconds. Absent if no worker is active, stale or lost.",
)

FLEET = (METADATA_DB_UP, WORKERS, WORKERS_BY_VERSION, FLEET_HEARTBEAT_AGE, FLEET_OLDEST_HEARTBEAT_AGE)

WORKER_HEARTBEAT_AGE = Family(
    "amp_worker_heartbeat_age_seconds",
    "gauge",
    "Seconds since the worker's last heartbeat, by the metadata DB's clock. Absent for stopped workers, from whom no "
    "heartbeat is expected. Negative if the heartbeat lies in the future.",
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
    "Unix time at which the worker stopped on purpose. Only stopped workers have one.",
    ("node_id",),
)

WORKER_INFO = Family(
    "amp_worker_info",
    "gauge",
    "What the worker was built from, as it said when it registered. Always 1; join it on node_id.",
    ("node_id", "version", "commit_sha", "commit_timestamp", "build_date"),
)

WORKER = (
    WORKER_HEARTBEAT_AGE,
    WORKER_HEARTBEAT_TIMESTAMP,
    WORKER_REGISTERED_TIMESTAMP,
    WORKER_CREATED_TIMESTAMP,
    WORKER_STOPPED_TIMESTAMP,
    WORKER_INFO,
)

BUILD_INFO = Family(
    "amp_exporter_build_info", "gauge", "The exporter's own version. Always 1.", ("version", "python_version")
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

EXPORTER = (BUILD_INFO, QUERY_DURATION, SCRAPE_ERRORS)

ALL = (*FLEET, *WORKER, *EXPORTER)
