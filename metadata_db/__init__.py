"""The metadata DB: the only room that knows SQL."""

from amp_workers.metadata_db.engine import (
    CONNECT_TIMEOUT_SECONDS,
    backend_of,
    connect,
    deadline,
    server_of,
    single_engine,
    through_pooler,
    told,
)
from amp_workers.metadata_db.errors import REASONS, MetadataDbError, UnfitSchema
from amp_workers.metadata_db.fleet import RUNNING, Details, Group, Key, Learn, Member, read_fleet
from amp_workers.metadata_db.forget import Forgetter, NotWritable, WorkerAlive, WorkerInUse
from amp_workers.metadata_db.node_id import InvalidNodeId, check_node_id
from amp_workers.metadata_db.reader import Reader
from amp_workers.metadata_db.registrations import (
    Registration,
    end_lock_holder,
    heartbeat,
    lock_holder,
    mark_stopped,
    register,
    registration,
    try_lock,
)
from amp_workers.metadata_db.schema import DEFAULT_THRESHOLDS, STATES, UNKNOWN, State, Thresholds
from amp_workers.metadata_db.schema_compat import check_compatible
from amp_workers.metadata_db.url import ENVIRONMENT, InvalidMetadataDbUrl, MetadataDbUrl, from_environment
from amp_workers.metadata_db.workers import NotInDatabase, Selection, Worker, check_schema, get_worker, list_workers

__all__ = [
    "CONNECT_TIMEOUT_SECONDS",
    "DEFAULT_THRESHOLDS",
    "ENVIRONMENT",
    "REASONS",
    "RUNNING",
    "STATES",
    "UNKNOWN",
    "Details",
    "Forgetter",
    "Group",
    "InvalidMetadataDbUrl",
    "InvalidNodeId",
    "Key",
    "Learn",
    "Member",
    "MetadataDbError",
    "MetadataDbUrl",
    "NotInDatabase",
    "NotWritable",
    "Reader",
    "Registration",
    "Selection",
    "State",
    "Thresholds",
    "UnfitSchema",
    "Worker",
    "WorkerAlive",
    "WorkerInUse",
    "backend_of",
    "check_compatible",
    "check_node_id",
    "check_schema",
    "connect",
    "deadline",
    "end_lock_holder",
    "from_environment",
    "get_worker",
    "heartbeat",
    "list_workers",
    "lock_holder",
    "mark_stopped",
    "read_fleet",
    "register",
    "registration",
    "server_of",
    "single_engine",
    "through_pooler",
    "told",
    "try_lock",
]
