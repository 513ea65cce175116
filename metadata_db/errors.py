"""What can go wrong with the metadata DB, in one line that an operator can act on."""

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from amp_workers.errors import AmpError
from amp_workers.metadata_db.startup_probe import is_starting_or_stopping

REASONS = ("unreachable", "refused", "schema", "timeout", "query")
"""Every `MetadataDbError.reason`."""

# By SQLSTATE, else by its class, which is its first two characters; `query` otherwise. The text of an error is in the
# server's language (lc_messages).
_REASONS = {
    "08": "unreachable",
    "08P01": "refused",  # what PgBouncer reports for everything of its own: it answers, and does not pass us on
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
    "schema": "the metadata DB's workers table is not the one expected",
    "timeout": "the metadata DB did not answer in time",
    "query": "the metadata DB reports",
}

_MORE_RIGHTS = (
    "Run `ampd migrate --print-grants` again, as after each upgrade of Amp, and pass its output to psql: it grants "
    "what the role lacks"
)

_NO_TABLE = (
    "the metadata DB has no workers table, or none that this role can see: run `ampd migrate`, or let Amp migrate a "
    "database of its own; `ampd migrate --print-grants` has the role's rights"
)

_ROW_LEVEL_SECURITY = (
    "row-level security applies to this role, and would hide workers: as a superuser, ALTER ROLE … BYPASSRLS for the "
    "role in the URL"
)

_SEVERITY_END = ":  "
"""libpq writes what a server says as `SEVERITY:  message`, in every language, and nothing of its own in that way."""


class MetadataDbError(AmpError):
    """The metadata DB did not do what was asked of it.

    `reason` is one of REASONS: `unreachable` (no connection, or it broke, or the server starts up or shuts down),
    `refused` (a server or pooler answers, and refuses: no privilege, wrong password, read-only, a full disk), `schema`
    (the table does not exist or is not Amp's), `timeout` (no answer in time), `query` (anything else). The message is
    one line and never holds the password.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnfitSchema(MetadataDbError):
    """The `workers` table lacks what is needed of it; the message names what."""

    def __init__(self, message: str) -> None:
        super().__init__("schema", message)


def explain(error: Exception) -> MetadataDbError:
    """Return what an error of SQLAlchemy or psycopg means, or of anything that reads their answers."""
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
    """Return what a failed attempt to connect means. psycopg has no SQLSTATE of it, only libpq's text."""
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
    """A duplicate node id is no error where a worker registers: what is left is the primary key."""
    table = f"{diag.schema_name}.{diag.table_name}"
    command = f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"  # noqa: S608 - not executed
    return (
        f"the sequence of {table}.id is behind the table, as after a restore or a logical migration, so that no new "
        f"node id can register: run {command}"
    )


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__
