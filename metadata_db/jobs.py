"""The unfinished jobs of an Amp fleet, read from Amp's own tables `jobs_status` and `job_events`.

Jobs must never take the fleet down. Each read asks the catalogue first whether the tables and the rights are there,
runs under a savepoint with short time limits, and raises `JobsUnknown` for whatever goes wrong. The connection can be
used afterwards.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypedDict

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    MetaData,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError

from amp_workers.errors import AmpError
from amp_workers.metadata_db.amp_database import amp_database
from amp_workers.metadata_db.engine import in_transaction, keep_session, transaction
from amp_workers.metadata_db.errors import explain
from amp_workers.metadata_db.schema import (
    BOUND_CLOCK,
    STATES,
    State,
    constant,
    epoch,
    moment,
    shown,
    state_number,
    workers,
)
from amp_workers.metadata_db.statement import Statement

STATUSES = ("SCHEDULED", "RUNNING", "STOP_REQUESTED", "STOPPING", "ERROR")
"""The statuses of an unfinished job that Amp has today. Any other one counts as unfinished too, as OTHER."""

FATAL = "FATAL"
OTHER = "other"
_FINISHED = ("COMPLETED", "STOPPED", FATAL)

MISSING = "missing"
"""Stands for the state of a worker that a job names and that has no row."""

STRANDED_WORKER_STATES = (State.LOST, State.FAILED, State.STOPPED, State.FORGOTTEN, MISSING)
"""The states of a worker whose jobs stand still until they are moved."""

_STRANDED_STATUSES = ("SCHEDULED", "RUNNING", "ERROR")

MOST_STRANDED = 10
"""How many workers `Jobs.stranded_by_worker` names at most."""

_LIMITS = "SET LOCAL lock_timeout = 100; SET LOCAL statement_timeout = 1000"
"""In milliseconds. A migration of Amp's may hold a lock on these tables for minutes."""

_COLUMNS = {
    "jobs_status": ("job_id", "node_id", "status", "updated_at"),
    "job_events": ("id", "job_id", "event_type", "detail"),
}

_RIGHTS = text("""
SELECT coalesce(bool_and(has_column_privilege(to_regclass(relation), attname, 'SELECT')), false)
       AND count(*) = cardinality(cast(:columns AS text[]))
FROM (SELECT cast(:relation AS text) AS relation) AS asked
JOIN pg_attribute ON attrelid = to_regclass(relation) AND NOT attisdropped AND attname = ANY (cast(:columns AS text[]))
GROUP BY relation
""")

# One look at the index for each status that there is, however many rows have it.
_STATUSES_IN_USE = text("""
WITH RECURSIVE in_use (status) AS (
    SELECT min(status) FROM jobs_status
    UNION ALL
    SELECT (SELECT min(status) FROM jobs_status WHERE status > in_use.status) FROM in_use WHERE status IS NOT NULL
)
SELECT status FROM in_use WHERE status IS NOT NULL
""")

_metadata = MetaData()

jobs_status = Table(
    "jobs_status",
    _metadata,
    Column("job_id", BigInteger, primary_key=True),
    Column("node_id", Text),
    Column("status", Text),
    Column("updated_at", DateTime(timezone=True)),
)

job_events = Table(
    "job_events",
    _metadata,
    Column("id", BigInteger, primary_key=True),
    Column("job_id", BigInteger),
    Column("event_type", Text),
    Column("detail", JSONB),
)


_NOT_AMP_SECONDS, _NOT_AMP_UNTIL = 1.0, "not_amp_until"

_log = logging.getLogger("amp_workers.metadata_db")


class JobsUnknown(AmpError):
    """The jobs cannot be read; the message says why. The fleet can."""


class JobsLog:
    """Logs one line when jobs become unknown, one when they are known again, and one for each unknown status."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._problem: str | None = None
        self._unknown_statuses: frozenset[str] = frozenset()

    @contextmanager
    def suppressing(self) -> Iterator[None]:
        """Log a `JobsUnknown` of the block, and end the block there."""
        problem = None
        try:
            yield
        except JobsUnknown as error:
            problem = str(error)
        with self._lock:
            was, self._problem = self._problem, problem
        if problem is not None and was is None:
            _log.warning("jobs are unknown: %s", problem, extra={"reason": problem})
        elif problem is None and was is not None:
            _log.warning("jobs are known again")

    def note_statuses(self, jobs: "Jobs") -> None:
        """Log each status that this version does not know, once."""
        with self._lock:
            new = jobs.unknown_statuses - self._unknown_statuses
            self._unknown_statuses |= new
        for status in sorted(new):
            message = 'jobs have the unknown status %r: they count as unfinished, with status="other"'
            _log.warning(message, status, extra={"status": status})


@dataclass(frozen=True, slots=True)
class StrandedOfWorker:
    """The stranded jobs of one worker."""

    node_id: str
    worker_state: str
    jobs: int


@dataclass(frozen=True, slots=True)
class Jobs:
    """The unfinished jobs of a fleet, in the snapshot of the fleet itself."""

    by_status: Mapping[str, int]
    """For each of STATUSES, FATAL and OTHER, in lower case, how many jobs have it; 0 included."""

    by_worker: Mapping[str, int]
    """How many unfinished jobs each worker has that has any, by node id."""

    stranded: Mapping[str, int]
    """For each of STRANDED_WORKER_STATES, how many jobs stand still; 0 included."""

    stranded_by_worker: Sequence[StrandedOfWorker]
    """The workers with the most stranded jobs, at most MOST_STRANDED, most first."""

    oldest_not_picked_up_age_seconds: float | None
    """For how long the oldest job of an active worker has been SCHEDULED. None: there is none."""

    last_fatal_timestamp: float | None
    """When the last job became FATAL, as Unix time. None: there is none."""

    unknown_statuses: frozenset[str]
    """The statuses that count as OTHER."""


class Job(TypedDict):
    """One unfinished job. The moment is `2025-01-15T17:20:15Z`, as a worker's are."""

    id: int
    status: str
    updated_at: str
    dataset: str | None
    """`namespace/name`. None where no event of the job names it."""


def read_jobs(connection: Connection, clock: Mapping[str, datetime]) -> Jobs | None:
    """Return the unfinished jobs of the fleet; None where the database is not Amp's own.

    clock: the parameters of BOUND_CLOCK, by which the workers' states are computed.

    Raises:
        JobsUnknown: Amp's tables or the right to read them are missing, or there was no answer in time.
    """
    if amp_database(connection) is None:
        return None
    with _bounded(connection, "jobs_status"):
        in_use = _statuses_in_use(connection)
        unfinished = [status for status in in_use if status not in _FINISHED]
        fatal, last_fatal = connection.execute(
            select(func.count(), epoch(func.max(moment(jobs_status.c.updated_at)))).where(_has_status([FATAL]))
        ).one()
        rows = _select_jobs().execute(connection, {**clock, "unfinished": unfinished}).all()
    by_worker, stranded_by_worker = Counter[str](), Counter[tuple[str, str]]()
    by_status, stranded = dict.fromkeys(map(str.lower, STATUSES), 0), dict.fromkeys(STRANDED_WORKER_STATES, 0)
    others = 0
    for row in rows:
        by_worker.update(row.node_ids)
        if row.status in STATUSES:
            by_status[row.status.lower()] += row.jobs
        else:
            others += row.jobs
        worker_state = MISSING if row.state is None else STATES[row.state]
        if worker_state in STRANDED_WORKER_STATES and row.status in _STRANDED_STATUSES:
            stranded[worker_state] += row.jobs
            stranded_by_worker.update((node_id, worker_state) for node_id in row.node_ids)
    most = sorted(stranded_by_worker.items(), key=lambda each: (-each[1], each[0]))[:MOST_STRANDED]
    return Jobs(
        by_status={**by_status, FATAL.lower(): fatal, OTHER: others},
        by_worker=by_worker,
        stranded=stranded,
        stranded_by_worker=[StrandedOfWorker(*worker, jobs) for worker, jobs in most],
        oldest_not_picked_up_age_seconds=next((row.waiting for row in rows if row.waiting is not None), None),
        last_fatal_timestamp=last_fatal,
        unknown_statuses=frozenset(unfinished) - frozenset(STATUSES),
    )


def count_jobs(connection: Connection, node_ids: Collection[str] | None = None) -> dict[str, int] | None:
    """Return how many unfinished jobs each worker has that has any: of these workers, or of all.

    None where the database is not Amp's own.

    Raises:
        JobsUnknown: as `read_jobs` does.
    """
    if not _is_amp_database(connection):
        return None
    with _bounded(connection, "jobs_status"):
        unfinished = [status for status in _statuses_in_use(connection) if status not in _FINISHED]
        counted = select(jobs_status.c.node_id, func.count()).where(_has_status(unfinished))
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
        JobsUnknown: as `read_jobs` does.
    """
    if amp_database(connection) is None:
        return None
    with _bounded(connection, "jobs_status", "job_events"):
        wanted = statuses or [status for status in _statuses_in_use(connection) if status not in _FINISHED]
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
            .where(jobs_status.c.node_id == bindparam("node_id"), _has_status(wanted), jobs_status.c.job_id > after)
            .order_by(jobs_status.c.job_id)
            .limit(limit)
        )
        rows = connection.execute(query, {"node_id": node_id})
        return [{"id": row[0], "status": row[1], "updated_at": row[2], "dataset": row[3]} for row in rows]


@contextmanager
def _bounded(connection: Connection, *tables: str) -> Iterator[None]:
    """Run reads of Amp's tables so that their failure leaves the transaction, and its other results, alone."""
    with ExitStack() as end:
        if not in_transaction(connection):
            end.enter_context(transaction(connection, "BEGIN READ ONLY"))
        end.enter_context(keep_session(connection))
        connection.exec_driver_sql(f"SAVEPOINT jobs; {_LIMITS}")
        try:
            for table in tables:
                _check_readable(connection, table)
            yield
        except DBAPIError as error:
            if connection.invalidated:
                raise
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT jobs")
            raise JobsUnknown(f"{explain(error)}") from error
        except JobsUnknown:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT jobs")
            raise
        connection.exec_driver_sql("RELEASE SAVEPOINT jobs")


def _check_readable(connection: Connection, table: str) -> None:
    columns = list(_COLUMNS[table])
    is_readable = connection.execute(_RIGHTS, {"relation": table, "columns": columns}).scalar()
    if not is_readable:
        exists = connection.execute(select(func.to_regclass(table).is_not(None))).scalar_one()
        raise JobsUnknown(
            f"this role may not read Amp's table {table}, or it lacks a column: run `ampd migrate --print-grants` again"
            if exists
            else f"the metadata DB has no table {table}, which Amp makes in its migration 20260304000000: upgrade Amp"
        )


def _statuses_in_use(connection: Connection) -> list[str]:
    return list(connection.execute(_STATUSES_IN_USE).scalars())


@cache
def _select_jobs() -> Statement:
    """A row for each status and each state of the workers that have unfinished jobs; null for those without a row.

    The node ids are counted in Python: to group 50,000 of them takes PostgreSQL longer than all else here.
    """
    its_state = case((workers.c.node_id.is_(None), None), else_=state_number(BOUND_CLOCK))
    is_waiting = and_(jobs_status.c.status == constant("SCHEDULED"), its_state == constant(STATES.index(State.ACTIVE)))
    return Statement(
        select(
            its_state.label("state"),
            jobs_status.c.status,
            func.count().label("jobs"),
            func.array_agg(jobs_status.c.node_id).label("node_ids"),
            epoch(BOUND_CLOCK.now - func.min(moment(jobs_status.c.updated_at)).filter(is_waiting)).label("waiting"),
        )
        .select_from(jobs_status.outerjoin(workers, workers.c.node_id == jobs_status.c.node_id))
        .where(jobs_status.c.status == any_(bindparam("unfinished", None, ARRAY(Text))))
        .group_by(its_state, jobs_status.c.status)
    )


def _has_status(statuses: Collection[str]) -> Any:
    return jobs_status.c.status == any_(literal(list(statuses), ARRAY(Text)))


def _dataset(detail: Any) -> Any:
    """`namespace/name` from a job's descriptor, which any client may write: null unless both are texts."""
    names = [detail["dataset_namespace"], detail["dataset_name"]]
    are_texts = [func.jsonb_typeof(name) == text("'string'") for name in names]
    path = cast(names[0].astext, Text) + constant("/") + cast(names[1].astext, Text)
    return case((are_texts[0] & are_texts[1], func.left(path, 600)), else_=None)
