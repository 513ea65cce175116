"""Deletes workers from the metadata DB, on request only."""

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
"""The worker of each job, since Amp's migration 20260304000000. Unlike `jobs.node_id` before it, it has no foreign key
to `workers`."""

FORGETTABLE = (State.LOST, State.FAILED, State.STOPPED, State.FORGOTTEN)


class WorkerAlive(AmpError):
    """The worker is active, stuck or stale: it sends heartbeats, or may do so at any moment."""


class WorkerInUse(AmpError):
    """Rows of another table still refer to the worker."""


class NotWritable(AmpError):
    """The metadata DB is read-only, or the role may not delete workers."""


class Forgetter:
    """Deletes workers, one at a time, each in a new session."""

    def __init__(self, url: MetadataDbUrl, application_name: str, *, statement_timeout: float) -> None:
        self._engine = single_engine(url, application_name, statement_timeout=statement_timeout)
        self._one_at_a_time = threading.Lock()

    def forget(self, node_id: str, thresholds: Thresholds, seconds: float) -> State | None:
        """Delete the row of a worker that is lost, failed, stopped or forgotten, and return its state.

        Returns None where no worker has that node id.

        Raises:
            WorkerAlive: the worker is active, stuck or stale, or its row has just changed.
            WorkerInUse: a foreign key, or a job of Amp, refers to the worker.
            NotWritable: the database is read-only (such as a standby), or the role may not delete.
            MetadataDbError: no answer, or not in time, or no suitable `workers` table.
        """
        if not self._one_at_a_time.acquire(timeout=seconds):
            raise MetadataDbError("timeout", "other deletions are under way, and the metadata DB is slow to answer")
        try:
            with translate_errors(), connect(self._engine, seconds) as connection, deadline(connection, seconds):
                return _forget(connection, node_id, thresholds)
        finally:
            self._one_at_a_time.release()


def _forget(connection: Connection, node_id: str, thresholds: Thresholds) -> State | None:
    check_compatible(connection)
    # One statement checks and deletes. Where a heartbeat is written meanwhile, PostgreSQL evaluates the condition again
    # on the new row, with a new reading of the clock, and the worker stays.
    reading = clock_reading(thresholds)
    its_state = state(clock_of(reading))
    is_forgettable = state(clock_of_each_row(thresholds)).in_(FORGETTABLE)
    has_jobs_status = connection.execute(select(func.to_regclass("jobs_status").is_not(None))).scalar_one()
    is_its_job = _JOBS_STATUS.c.node_id == workers.c.node_id
    is_named = exists().where(is_its_job) if has_jobs_status else false()
    jobs = select(func.count()).where(is_its_job).scalar_subquery() if has_jobs_status else literal(0)
    gone = delete(workers).where(workers.c.node_id == node_id, is_forgettable, ~is_named)
    deleted = gone.returning(workers.c.node_id).cte("gone")
    # The row as it was at the start of the statement, and whether it is deleted now.
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
