"""The unfinished jobs of one worker or of some, for the Admin API."""

import time
from collections.abc import Collection
from typing import Any, TypedDict

from sqlalchemy import Connection, Text, any_, bindparam, case, cast, exists, func, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from amp_workers.metadata_db.amp_database import amp_database
from amp_workers.metadata_db.jobs import bounded, has_status, job_events, jobs_status, unfinished_statuses
from amp_workers.metadata_db.schema import constant, moment, shown

_NOT_AMP_SECONDS, _NOT_AMP_UNTIL = 1.0, "not_amp_until"


class Job(TypedDict):
    """One unfinished job. The moment is `2025-01-15T17:20:15Z`, as a worker's are."""

    id: int
    status: str
    updated_at: str
    dataset: str | None
    """`namespace/name`. None where no event of the job names it."""


def count_jobs(connection: Connection, node_ids: Collection[str] | None = None) -> dict[str, int] | None:
    """Return how many unfinished jobs each worker has that has any: of these workers, or of all.

    None where the database is not Amp's own.

    Raises:
        JobsUnknown: Amp's tables or the right to read them are missing, or there was no answer in time.
    """
    if not _is_amp_database(connection):
        return None
    with bounded(connection, "jobs_status"):
        unfinished = unfinished_statuses(connection)
        counted = select(jobs_status.c.node_id, func.count()).where(has_status(unfinished))
        if node_ids is not None:
            counted = counted.where(jobs_status.c.node_id == any_(literal(list(node_ids), ARRAY(Text))))
        rows = connection.execute(counted.group_by(jobs_status.c.node_id))
        return dict(rows.all())


def _is_amp_database(connection: Connection) -> bool:
    """Return whether the database is Amp's own. Where it is not, a session reads the catalogue once per second: that
    takes longer than to read a worker."""
    if time.monotonic() < connection.info.get(_NOT_AMP_UNTIL, 0.0):
        return False
    is_amp = amp_database(connection) is not None
    if not is_amp:
        connection.info[_NOT_AMP_UNTIL] = time.monotonic() + _NOT_AMP_SECONDS
    return is_amp


def list_jobs(
    connection: Connection, node_id: str, *, statuses: Collection[str] = (), after: int = 0, limit: int | None = None
) -> list[Job] | None:
    """Return the unfinished jobs of one worker, or those of its jobs that have one of `statuses`, by id.

    None where the database is not Amp's own. after: only jobs with a larger id. limit: so many at most.

    Raises:
        JobsUnknown: Amp's tables or the right to read them are missing, or there was no answer in time.
    """
    if amp_database(connection) is None:
        return None
    with bounded(connection, "jobs_status", "job_events"):
        wanted = statuses or unfinished_statuses(connection)
        detail = (
            select(job_events.c.detail)
            .where(
                job_events.c.job_id == jobs_status.c.job_id,
                job_events.c.event_type == text("'SCHEDULED'"),
                job_events.c.detail.is_not(None),
            )
            .order_by(job_events.c.id.desc())
            .limit(1)
            .lateral("scheduled")
        )
        query = (
            select(
                jobs_status.c.job_id,
                jobs_status.c.status,
                shown(moment(jobs_status.c.updated_at)),
                _dataset(detail.c.detail),
            )
            .select_from(jobs_status.outerjoin(detail, text("true")))
            .where(jobs_status.c.node_id == bindparam("node_id"), has_status(wanted), jobs_status.c.job_id > after)
            .order_by(jobs_status.c.job_id)
            .limit(limit)
        )
        rows = connection.execute(query, {"node_id": node_id})
        return [{"id": row[0], "status": row[1], "updated_at": row[2], "dataset": row[3]} for row in rows]


def has_jobs(connection: Connection, node_id: str) -> bool:
    """Return whether a job names a worker, a finished one included. False where the database is not Amp's own.

    Raises:
        JobsUnknown: Amp's tables or the right to read them are missing, or there was no answer in time.
    """
    if amp_database(connection) is None:
        return False
    with bounded(connection, "jobs_status"):
        named = select(exists().where(jobs_status.c.node_id == bindparam("node_id")))
        return bool(connection.execute(named, {"node_id": node_id}).scalar())


def _dataset(detail: Any) -> Any:
    """`namespace/name` from a job's descriptor, which any client may write: null unless both are texts."""
    names = [detail["dataset_namespace"], detail["dataset_name"]]
    are_texts = [func.jsonb_typeof(name) == text("'string'") for name in names]
    path = cast(names[0].astext, Text) + constant("/") + cast(names[1].astext, Text)
    return case((are_texts[0] & are_texts[1], func.left(path, 600)), else_=None)
