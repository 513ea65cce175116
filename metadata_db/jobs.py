"""What Amp's own tables `jobs_status` and `job_events` mean, and how they are read.

Jobs must never take the fleet down. Each read asks the catalogue first whether the tables and the rights are there,
runs under a savepoint with short time limits, and raises `JobsUnknown` for whatever goes wrong. The connection can be
used afterwards.
"""

import logging
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    MetaData,
    Table,
    Text,
    any_,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError

from amp_workers.errors import AmpError
from amp_workers.metadata_db.engine import in_transaction, keep_session, transaction
from amp_workers.metadata_db.errors import explain

SCHEDULED = "SCHEDULED"
STATUSES = (SCHEDULED, "RUNNING", "STOP_REQUESTED", "STOPPING", "ERROR")
"""The statuses of an unfinished job that Amp has today. Any other one counts as unfinished too."""

FATAL = "FATAL"
_FINISHED = ("COMPLETED", "STOPPED", FATAL)

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


_log = logging.getLogger("amp_workers.metadata_db")


class JobsUnknown(AmpError):
    """The jobs cannot be read; the message says why. The fleet can."""


class JobsLog:
    """Logs one line when jobs become unknown, one when they are known again, and one for each unknown status."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._problems: dict[str, str] = {}
        self._unknown_statuses: frozenset[str] = frozenset()

    @contextmanager
    def suppressing(self, table: str = jobs_status.name) -> Iterator[None]:
        """Log a `JobsUnknown` of the block, and end the block there.

        table: which a read needs. One may be readable where another is not; a problem that both have is logged once.
        """
        problem = None
        try:
            yield
        except JobsUnknown as error:
            problem = str(error)
        with self._lock:
            is_new = table not in self._problems and problem not in self._problems.values()
            was = self._problems.pop(table, None)
            if problem is not None:
                self._problems[table] = problem
            elif was is not None:
                self._problems = {each: other for each, other in self._problems.items() if other != was}
        if problem is not None and is_new:
            _log.warning("jobs are unknown: %s", problem, extra={"reason": problem})
        elif problem is None and was is not None:
            _log.warning("jobs are known again")

    def note_statuses(self, unknown_statuses: frozenset[str]) -> None:
        """Log each status that this version does not know, once."""
        with self._lock:
            new = unknown_statuses - self._unknown_statuses
            self._unknown_statuses |= new
        for status in sorted(new):
            message = 'jobs have the unknown status %r: they count as unfinished, with status="other"'
            _log.warning(message, status, extra={"status": status})


@contextmanager
def bounded(connection: Connection, *tables: str) -> Iterator[None]:
    """Run reads of Amp's tables so that their failure leaves the transaction, and its other results, alone.

    All reads of the block see one snapshot.
    """
    with ExitStack() as end:
        if not in_transaction(connection):
            end.enter_context(transaction(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
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


def unfinished_statuses(connection: Connection) -> list[str]:
    """Return the statuses of the unfinished jobs that there are, unknown ones included."""
    return [status for status in connection.execute(_STATUSES_IN_USE).scalars() if status not in _FINISHED]


def has_status(statuses: Collection[str]) -> Any:
    return jobs_status.c.status == any_(literal(list(statuses), ARRAY(Text)))
