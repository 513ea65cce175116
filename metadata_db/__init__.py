"""The metadata DB: the only room that contains SQL."""

from amp_workers.metadata_db.amp_database import AmpDatabase, amp_database
from amp_workers.metadata_db.engine import (
    backend_of,
    connect,
    deadline,
    server_of,
    single_engine,
    through_pooler,
    translate_errors,
)
from amp_workers.metadata_db.errors import REASONS, MetadataDbError, UnfitSchema
from amp_workers.metadata_db.fleet import Fleet, read_fleet
from amp_workers.metadata_db.fleet_counts import FleetCounts, count_fleet
from amp_workers.metadata_db.fleet_details import LABEL_LENGTH, Details, KeptDetails, Members
from amp_workers.metadata_db.fleet_groups import Group
from amp_workers.metadata_db.fleet_jobs import STRANDED_WORKER_STATES, Jobs, read_jobs
from amp_workers.metadata_db.fleet_key import Key
from amp_workers.metadata_db.forget import FORGETTABLE, Forgetter, NotWritable, WorkerAlive, WorkerInUse
from amp_workers.metadata_db.glob import text_matcher
from amp_workers.metadata_db.jobs import JobsLog, JobsUnknown
from amp_workers.metadata_db.listing import Listing, read_listing
from amp_workers.metadata_db.node_id import InvalidNodeId, check_node_id
from amp_workers.metadata_db.reader import Reader
from amp_workers.metadata_db.registrations import (
    ON_PURPOSE,
    Ending,
    LockHolder,
    Progress,
    Registration,
    end_lock_holder,
    heartbeat,
    lock_holder,
    mark_stopped,
    register,
    registration,
    session_id,
    try_lock,
)
from amp_workers.metadata_db.schema import (
    AGE_BOUNDS,
    DEFAULT_THRESHOLDS,
    EXPECTED,
    PROGRESS_LENGTH,
    RUNNING,
    STATES,
    UNHEALTHY,
    UNKNOWN,
    State,
    Thresholds,
    clock_at,
)
from amp_workers.metadata_db.schema_compat import check_compatible
from amp_workers.metadata_db.session import CONNECT_TIMEOUT_SECONDS
from amp_workers.metadata_db.single_flight import SingleFlight
from amp_workers.metadata_db.url import ENVIRONMENT, InvalidMetadataDbUrl, MetadataDbUrl, from_environment
from amp_workers.metadata_db.worker_jobs import Job, count_jobs, has_jobs, list_jobs
from amp_workers.metadata_db.workers import (
    EVERY_WORKER,
    ORDERS,
    NotInDatabase,
    Order,
    Selection,
    Worker,
    check_schema,
    get_worker,
    list_workers,
)

__all__ = [
    "AGE_BOUNDS",
    "CONNECT_TIMEOUT_SECONDS",
    "DEFAULT_THRESHOLDS",
    "ENVIRONMENT",
    "EVERY_WORKER",
    "EXPECTED",
    "FORGETTABLE",
    "LABEL_LENGTH",
    "ON_PURPOSE",
    "ORDERS",
    "PROGRESS_LENGTH",
    "REASONS",
    "RUNNING",
    "STATES",
    "STRANDED_WORKER_STATES",
    "UNHEALTHY",
    "UNKNOWN",
    "AmpDatabase",
    "Details",
    "Ending",
    "Fleet",
    "FleetCounts",
    "Forgetter",
    "Group",
    "InvalidMetadataDbUrl",
    "InvalidNodeId",
    "Job",
    "Jobs",
    "JobsLog",
    "JobsUnknown",
    "KeptDetails",
    "Key",
    "Listing",
    "LockHolder",
    "Members",
    "MetadataDbError",
    "MetadataDbUrl",
    "NotInDatabase",
    "NotWritable",
    "Order",
    "Progress",
    "Reader",
    "Registration",
    "Selection",
    "SingleFlight",
    "State",
    "Thresholds",
    "UnfitSchema",
    "Worker",
    "WorkerAlive",
    "WorkerInUse",
    "amp_database",
    "backend_of",
    "check_compatible",
    "check_node_id",
    "check_schema",
    "clock_at",
    "connect",
    "count_fleet",
    "count_jobs",
    "deadline",
    "end_lock_holder",
    "from_environment",
    "get_worker",
    "has_jobs",
    "heartbeat",
    "list_jobs",
    "list_workers",
    "lock_holder",
    "mark_stopped",
    "read_fleet",
    "read_jobs",
    "read_listing",
    "register",
    "registration",
    "server_of",
    "session_id",
    "single_engine",
    "text_matcher",
    "through_pooler",
    "translate_errors",
    "try_lock",
]
