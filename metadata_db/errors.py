"""What can go wrong with the metadata DB, told in one line that an operator can act on."""

import psycopg
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from amp_workers.errors import AmpError

REASONS = ("unreachable", "refused", "schema", "timeout", "query")
"""Every `MetadataDbError.reason`, in the order in which they are told apart."""


_REFUSALS = (
    "authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied",
    "too many ",
    "connection slots",
)


class MetadataDbError(AmpError):
    """The metadata DB did not do what it was asked.

    `reason` is one of REASONS: `unreachable` (no connection, or it broke), `refused` (the server does not let us in,
    or not write: no privilege, read-only, a full disk), `schema` (the table is not there or not ours), `timeout` (no
    answer in time), `query` (anything else). The message is one line and never holds the password.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnfitSchema(MetadataDbError):
    """The `workers` table lacks what is needed of it; the message names what."""

    def __init__(self, message: str) -> None:
        super().__init__("schema", message)


def explain(error: DBAPIError | PoolTimeoutError | psycopg.Error) -> MetadataDbError:  # noqa: PLR0911 - a table
    """Turn what SQLAlchemy or psycopg raised into what is told."""
    if isinstance(error, PoolTimeoutError):
        return MetadataDbError("timeout", "all connections of this process to the metadata DB are in use")
    cause = error.orig if isinstance(error, DBAPIError) else error
    text = _one_line(cause)
    match cause:
        case pg.UndefinedTable():
            return MetadataDbError(
                "schema",
                "the metadata DB has no workers table, or none that this role can see: run `ampd migrate`, or let Amp "
                "migrate a database of its own; `ampd migrate --print-grants` has the role's rights",
            )
        case pg.UndefinedColumn() | pg.UndefinedFunction():
            return MetadataDbError("schema", f"the metadata DB's workers table is not the one expected: {text}")
        case pg.QueryCanceled() | psycopg.errors.ConnectionTimeout():
            return MetadataDbError("timeout", f"the metadata DB did not answer in time: {text}")
        case pg.InsufficientPrivilege():
            return MetadataDbError(
                "refused",
                f"the metadata DB refuses: {text}. Run `ampd migrate --print-grants` again, as after each upgrade of "
                "Amp, and pass its output to psql: it grants what the role lacks",
            )
        case pg.ReadOnlySqlTransaction() | pg.DiskFull():
            return MetadataDbError("refused", f"the metadata DB refuses: {text}")
        case psycopg.OperationalError() if cause.sqlstate is None and "FATAL" in text and _refuses(text):
            # A failed connection carries no SQLSTATE, only the server's words.
            return MetadataDbError("refused", f"the metadata DB refuses the connection: {text}")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return MetadataDbError("unreachable", f"the metadata DB cannot be reached: {text}")
        case _:
            return MetadataDbError("query", f"the metadata DB reports: {text}")


def _refuses(text: str) -> bool:
    return any(word in text for word in _REFUSALS)


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__
