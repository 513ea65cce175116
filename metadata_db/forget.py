"""Forgetting a worker: the one thing that is ever deleted from the metadata DB, and only when somebody asks for it."""

import threading

from psycopg.errors import ForeignKeyViolation, InsufficientPrivilege, ReadOnlySqlTransaction
from sqlalchemy import Connection, column, delete, exists, false, func, literal, select, table, true
from sqlalchemy.exc import DBAPIError

from amp_workers.errors import AmpError
from amp_workers.metadata_db.engine import connect, deadline, single_engine, translate_errors
from amp_workers.metadata_db.errors import MetadataDbError
from amp_workers.metadata_db.schema import State, Thresholds, clock_of, clock_of_each_row, clock_reading, state, workers
from amp_workers.metadata_db.schema_compat import check_compatible
from amp_workers.metadata_db.url import MetadataDbUrl

_JOBS_STATUS = table("jobs_status", column("node_id"))
"""Who has which job, in Amp from its migration 20260304000000 on. No foreign key holds it to the workers, as one holds
`jobs.node_id` before that."""

FORGETTABLE = (State.LOST, State.FAILED, State.STOPPED, State.FORGOTTEN)


class WorkerAlive(AmpError):
    """The worker is active, stuck or stale: it sends heartbeats, or may do so at any moment."""


class WorkerInUse(AmpError):
    """Another table's rows still name the worker."""


class NotWritable(AmpError):
    """The metadata DB, or the role there, does not let anything be deleted."""


class Forgetter:
    """Deletes workers, one at a time, each in a session of its own that ends with it."""

    def __init__(self, url: MetadataDbUrl, application_name: str, *, statement_timeout: float) -> None:
        self._engine = single_engine(url, application_name, statement_timeout=statement_timeout)
        self._turn = threading.Lock()

    def forget(self, node_id: str, thresholds: Thresholds, seconds: float) -> State | None:
        """Delete the row of a worker that is lost, stopped or forgotten; return the state that it was in.

        None: no worker has that node id.

        Raises:
            WorkerAlive: the worker is active or stale, or its row changed at this very moment.
            WorkerInUse: a foreign key refers to the worker, or a job of Amp's names it.
            NotWritable: the database is read-only (a standby, say), or the role may not delete.
            MetadataDbError: there was no answer, or not in time, or the table is not there or none of Amp's.
        """
        if not self._turn.acquire(timeout=seconds):
            raise MetadataDbError("timeout", "other deletions are under way, and the metadata DB is slow to answer")
        try:
            with translate_errors(), connect(self._engine, seconds) as connection, deadline(connection, seconds):
                return _forget(connection, node_id, thresholds)
        finally:
            self._turn.release()


def _forget(connection: Connection, node_id: str, thresholds: Thresholds) -> State | None:
    check_compatible(connection)
    # One statement looks and deletes. Where a heartbeat comes in between, PostgreSQL looks at the row again before it
    # deletes, with a new reading of the clock, and the worker stays.
    reading = clock_reading(thresholds)
    its_state = state(clock_of(reading))
    is_forgettable = state(clock_of_each_row(thresholds)).in_(FORGETTABLE)
    has_jobs_status = connection.execute(select(func.to_regclass("jobs_status").is_not(None))).scalar_one()
    is_its_job = _JOBS_STATUS.c.node_id == workers.c.node_id
    is_named = exists().where(is_its_job) if has_jobs_status else false()
    jobs = select(func.count()).where(is_its_job).scalar_subquery() if has_jobs_status else literal(0)
    gone = delete(workers).where(workers.c.node_id == node_id, is_forgettable, ~is_named)
    deleted = gone.returning(workers.c.node_id).cte("gone")
    # The row as it was when the statement began, and whether it is gone now.
    found = select(its_state, jobs, deleted.c.node_id.is_not(None)).where(workers.c.node_id == node_id)
    query = found.select_from(workers.join(reading, true()).outerjoin(deleted, true()))
    try:
        row = connection.execute(query).one_or_none()
    except DBAPIError as error:
        raise _refusal(error, node_id) from error
    if row is None:
        return None
    was, job_count, is_deleted = row
    if is_deleted:
        return State(was)
    if job_count and was in FORGETTABLE:
        raise _in_use(node_id, f"{job_count} jobs" if job_count > 1 else "1 job", _JOBS_STATUS.name)
    how = f"is {was}" if was not in FORGETTABLE else "has just sent a heartbeat, or another client is deleting it"
    raise WorkerAlive(f"worker '{node_id}' {how}: only one that is lost, failed or stopped can be deleted")


def _refusal(error: DBAPIError, node_id: str) -> Exception:
    match error.orig:
        case ForeignKeyViolation() as cause:
            return _in_use(node_id, "rows", cause.diag.table_name or "another table")
        case ReadOnlySqlTransaction():
            return NotWritable(
                "the metadata DB is read-only (a standby, or default_transaction_read_only is on): start `ampd admin` "
                "with the URL of the primary"
            )
        case InsufficientPrivilege():
            return NotWritable(
                "the role of ampd admin may not delete workers: GRANT DELETE ON workers to it, and where there is a "
                "table jobs_status, GRANT SELECT ON jobs_status as well, as the tables' owner"
            )
    return error


def _in_use(node_id: str, how_many: str, table_name: str) -> WorkerInUse:
    return WorkerInUse(
        f"worker '{node_id}' is still in use: {how_many} of table {table_name} must be deleted or moved to another "
        "worker first"
    )
