"""Connections to the metadata DB, pooled or not, with their deadlines and transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, ExceptionContext, NullPool, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from amp_workers.errors import AmpError
from amp_workers.metadata_db.errors import MetadataDbError, explain
from amp_workers.metadata_db.session import CONNECT_TIMEOUT_SECONDS, Deadline, Session, open_session
from amp_workers.metadata_db.url import MetadataDbUrl, show_server

_OUTDATED_SESSION_CLASSES = frozenset({"0A", "25", "26", "3F", "42", "XX"})
"""Classes of SQLSTATE that an outdated session may return: the result type of a prepared statement changed, the
statement is gone, the search_path of the role changed, a table was recreated."""


def pooled_engine(url: MetadataDbUrl, application_name: str, *, connections: int, statement_timeout: float) -> Engine:
    """Return an engine with a pool of at most so many connections, in which no statement can write.

    statement_timeout: in seconds, held by the server.
    """
    settings = {
        "statement_timeout": _milliseconds(statement_timeout),
        "work_mem": "64MB",
        # A program that is frozen within a transaction holds a lock on the table: a migration of Amp's would wait for
        # it, and every heartbeat for the migration.
        "idle_in_transaction_session_timeout": "10s",
    }
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: open_session(url, application_name, settings, read_only=True, deadline=_opening.get()),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        use_native_hstore=False,  # it is looked up in a transaction without our settings
    )
    event.listen(engine, "handle_error", _discard_outdated_sessions)
    return engine


def single_engine(url: MetadataDbUrl, application_name: str, *, statement_timeout: float) -> Engine:
    """Return an engine without a pool: session locks need a session of their own. For `connect`.

    No commit waits for a standby. Where a standby of `synchronous_standby_names` is gone, a registration would wait for
    ever, with its row locked: through a pooler, no cancel request ends that wait.

    statement_timeout: in seconds, held by the server.
    """
    settings = {"statement_timeout": _milliseconds(statement_timeout), "synchronous_commit": "local"}
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: open_session(url, application_name, settings, read_only=False, deadline=_opening.get()),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        # Each statement commits by itself, so there is nothing to roll back.
        skip_autocommit_rollback=True,
        hide_parameters=True,
        use_native_hstore=False,  # it is looked up in a transaction without our settings
    )


def session_of(connection: Connection) -> Session:
    """Return the driver's connection, for what SQLAlchemy does not offer."""
    return cast(Session, connection.connection.driver_connection)


def through_pooler(connection: Connection) -> bool:
    """Whether a connection goes through a pooler, which does not keep a session's locks and settings."""
    return session_of(connection).through_pooler


@contextmanager
def transaction(connection: Connection, begin: LiteralString, then: LiteralString = "") -> Iterator[None]:
    """Run the block in one transaction, started by `begin`, with the settings of the engine, pooler or not.

    then: statements without a result, which travel with `begin`.
    """
    started = sql.SQL(begin) + session_of(connection).local_settings + sql.SQL("; ") + sql.SQL(then)
    try:
        connection.exec_driver_sql(started.as_string())
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        if not connection.invalidated and in_transaction(connection):
            connection.exec_driver_sql("ROLLBACK")
        raise


def in_transaction(connection: Connection) -> bool:
    """Whether a `transaction` has begun on this connection."""
    return not session_of(connection).has_status(TransactionStatus.IDLE)


@contextmanager
def keep_session(connection: Connection) -> Iterator[None]:
    """Keep the session if a statement in the block fails: the caller rolls back to a savepoint and continues."""
    session = session_of(connection)
    session.is_kept = True
    try:
        yield
    finally:
        session.is_kept = False


def backend_of(connection: Connection) -> int:
    """Return the process id of the session in the server. It is meaningless through a pooler."""
    return session_of(connection).info.backend_pid


def server_of(connection: Connection) -> str:
    """Return the server and database of a connection, as a URL without a password."""
    return show_server(session_of(connection).info)


def connect(engine: Engine, seconds: float) -> Connection:
    """Return a connection, new or from the pool, within so many seconds.

    The deadline covers the queries that SQLAlchemy sends on a first connection.
    """
    limit = Deadline(seconds)
    token = _opening.set(limit)
    try:
        with _named_timeout(limit):
            connection = engine.connect()
    finally:
        _opening.reset(token)
    session_of(connection).deadline = None
    return connection


@contextmanager
def deadline(connection: Connection, seconds: float) -> Iterator[None]:
    """End a statement on this connection after so many seconds, whatever the server does.

    `statement_timeout` is not enough: a frozen server does not enforce it, and its kernel still answers keepalives.
    """
    session = session_of(connection)
    limit = Deadline(seconds)
    outer, session.deadline = session.deadline, limit
    try:
        with _named_timeout(limit):
            yield
    finally:
        session.deadline = outer


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise every error of SQLAlchemy and of the driver as a `MetadataDbError`.

    psycopg's loaders raise other exceptions than `psycopg.Error` for values that they cannot read.
    """
    try:
        yield
    except AmpError:
        raise
    except (SQLAlchemyError, psycopg.Error, ValueError, ArithmeticError, NotImplementedError) as error:
        raise explain(error) from error


@contextmanager
def _named_timeout(limit: Deadline) -> Iterator[None]:
    """Raise a timeout where the deadline ended the statement. The server's own error is that it was canceled."""
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        if limit.is_expired:
            message = f"the metadata DB did not answer within {limit.seconds:.1f} s"
            raise MetadataDbError("timeout", message) from error
        raise


def _discard_outdated_sessions(context: ExceptionContext) -> None:
    """Make SQLAlchemy replace all sessions of the pool, as it does after a disconnect."""
    connection, sqlstate = context.connection, getattr(context.original_exception, "sqlstate", None) or ""
    if sqlstate[:2] in _OUTDATED_SESSION_CLASSES and connection is not None and not session_of(connection).is_kept:
        context.is_disconnect = True


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


_opening: ContextVar[Deadline | None] = ContextVar("_opening", default=None)
