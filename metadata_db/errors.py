"""Errors of the metadata DB: one line each, with what an operator can do."""

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from amp_workers.errors import AmpError
from amp_workers.metadata_db.startup_probe import is_starting_or_stopping

REASONS = ("unreachable", "refused", "schema", "timeout", "query")
"""Every `MetadataDbError.reason`."""

# Keys: an SQLSTATE, or its class, which is its first two characters. Others are `query`. The text of an error cannot be
# used: it is in the server's language (lc_messages).
_REASONS = {
    "08": "unreachable",
    "08P01": "refused",  # PgBouncer reports all its own errors with it
    "25006": "refused",  # read-only
    "25P03": "timeout",  # idle in a transaction
    "25P04": "timeout",  # transaction_timeout
    "28": "refused",
    "3D": "refused",  # no such database
    "3F": "schema",
    "42501": "refused",  # no privilege, or row-level security
    "42703": "schema",  # no such column
    "42804": "schema",  # another type
    "42846": "schema",  # cannot cast
    "42883": "schema",  # no such operator
    "42P01": "schema",  # no such table
    "42P10": "schema",  # no unique index on node_id
    "53": "refused",  # too many connections, a full disk, out of memory
    "55P03": "timeout",  # lock_timeout
    "57": "unreachable",  # shutting down, starting up, the database was dropped
    "57014": "timeout",  # cancelled: statement_timeout
}

_TEXTS = {
    "unreachable": "the metadata DB is unavailable",
    "refused": "the metadata DB refuses",
    "schema": "the metadata DB's workers table is not as expected",
    "timeout": "the metadata DB did not answer in time",
    "query": "the metadata DB reports",
}

_MORE_RIGHTS = (
    "Run `ampd migrate --print-grants` again, as after each upgrade of Amp, and pass its output to psql: it grants "
    "the missing privileges"
)

_NO_TABLE = (
    "the metadata DB has no workers table, or none that this role can see: run `ampd migrate`, or let Amp migrate its "
    "own database; `ampd migrate --print-grants` prints the privileges of the role"
)

_ROW_LEVEL_SECURITY = (
    "row-level security applies to this role, and would hide workers: as a superuser, ALTER ROLE … BYPASSRLS for the "
    "role in the URL"
)

_SEVERITY_END = ":  "
"""libpq formats the errors of a server as `SEVERITY:  message`, in every language; its own have another format."""


class MetadataDbError(AmpError):
    """A request to the metadata DB failed.

    `reason` is one of REASONS: `unreachable` (no connection, or it broke, or the server starts up or shuts down),
    `refused` (a server or pooler refuses: no privilege, wrong password, read-only, a full disk), `schema`
    (the table does not exist or is not Amp's), `timeout` (no answer in time), `query` (anything else). The message is
    one line and never holds the password.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnfitSchema(MetadataDbError):
    """The `workers` table cannot be used; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__("schema", message)


def explain(error: Exception) -> MetadataDbError:
    """Return the `MetadataDbError` for an error of SQLAlchemy, of psycopg, or of a loader."""
    if isinstance(error, PoolTimeoutError):
        return MetadataDbError("timeout", "all connections of this process to the metadata DB are in use")
    cause = error.orig if isinstance(error, DBAPIError) else error
    text = _one_line(cause)
    match cause:
        case psycopg.Error(sqlstate=str(sqlstate)):
            return _explain_sqlstate(sqlstate, cause.diag, text)
        case psycopg.errors.ConnectionTimeout():
            return MetadataDbError("timeout", f"{_TEXTS['timeout']}: {text}")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return MetadataDbError("unreachable", f"the metadata DB cannot be reached: {text}")
        case psycopg.Error():
            return MetadataDbError("query", f"the metadata DB's answer cannot be read: {text}")
        case _:
            return MetadataDbError("query", f"the metadata DB's answer cannot be read: {type(cause).__name__}: {text}")


def explain_failed_connection(error: psycopg.Error) -> MetadataDbError:
    """Return the `MetadataDbError` for a failed attempt to connect, which has libpq's text and no SQLSTATE."""
    has_answered = _SEVERITY_END in str(error)
    if not has_answered or (error.pgconn is not None and is_starting_or_stopping(error.pgconn)):
        return explain(error)
    return MetadataDbError("refused", f"the metadata DB refuses the connection: {_one_line(error)}")


def _explain_sqlstate(sqlstate: str, diag: psycopg.errors.Diagnostic, text: str) -> MetadataDbError:
    reason = _REASONS.get(sqlstate) or _REASONS.get(sqlstate[:2]) or "query"
    match sqlstate, diag.source_function:
        case "42P01", _:
            return MetadataDbError(reason, _NO_TABLE)
        case "42501", "check_enable_rls":
            return MetadataDbError(reason, f"{_ROW_LEVEL_SECURITY} ({text})")
        case "42501", _:
            return MetadataDbError(reason, f"{_TEXTS[reason]}: {text}. {_MORE_RIGHTS}")
        case "23505", _:
            return MetadataDbError(reason, _sequence_behind(diag))
    return MetadataDbError(reason, f"{_TEXTS[reason]}: {text}")


def _sequence_behind(diag: psycopg.errors.Diagnostic) -> str:
    """Return the message for a duplicate key. A registration handles duplicate node ids, so the key is `id`."""
    table = f"{diag.schema_name}.{diag.table_name}"
    command = f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"  # noqa: S608 - not executed
    return (
        f"the sequence of {table}.id is behind the table, as after a restore or a logical migration, so that no new "
        f"node id can register: run {command}"
    )


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__
