"""Connections to the metadata DB, pooled or not, and what holds on each of them: deadlines and transactions."""

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

_CURED_BY_A_NEW_SESSION = frozenset({"0A", "25", "26", "3F", "42", "XX"})
"""Classes of SQLSTATE that an old session may return and a new one may not: a prepared statement's result changed its
type or the statement is gone, a search_path that another one has replaced, a table that was created anew."""


def pooled_engine(url: MetadataDbUrl, application_name: str, *, connections: int, statement_timeout: float) -> Engine:
    """Return an engine whose pool never holds more than so many connections, in which no statement can write.

    statement_timeout: in seconds, held by the server.
    """
    settings = {"statement_timeout": _milliseconds(statement_timeout), "work_mem": "64MB"}
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
    """Return an engine without a pool; for `connect`: each session is one of its own, as its locks need.

    No commit waits for a standby. A standby that is gone (`synchronous_standby_names`) would hold up a registration for
    ever, with the row locked: through a pooler no cancel request ends that wait.

    statement_timeout: in seconds, held by the server.
    """
    settings = {"statement_timeout": _milliseconds(statement_timeout), "synchronous_commit": "local"}
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: open_session(url, application_name, settings, read_only=False, deadline=_opening.get()),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        # Nothing is left to roll back where each statement commits, least of all on a connection that broke.
        skip_autocommit_rollback=True,
        hide_parameters=True,
        use_native_hstore=False,  # it is looked up in a transaction without our settings
    )


def session_of(connection: Connection) -> Session:
    """Return the driver's connection, for what SQLAlchemy has no word for."""
    return cast(Session, connection.connection.driver_connection)


def through_pooler(connection: Connection) -> bool:
    """Whether a connection leads through a pooler, where a session's locks and settings mean nothing."""
    return session_of(connection).through_pooler


@contextmanager
def transaction(connection: Connection, begin: LiteralString) -> Iterator[None]:
    """Run in one transaction, which `begin` begins and which has the settings of its engine, pooler or not."""
    connection.exec_driver_sql((sql.SQL(begin) + session_of(connection).local_settings).as_string())
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
        raise


def in_transaction(connection: Connection) -> bool:
    """Whether a `transaction` has begun on this connection."""
    return not session_of(connection).has_status(TransactionStatus.IDLE)


@contextmanager
def keep_session(connection: Connection) -> Iterator[None]:
    """Keep the session whatever statement fails inside: the caller rolls back to a savepoint, and goes on with it."""
    session = session_of(connection)
    session.is_kept = True
    try:
        yield
    finally:
        session.is_kept = False


def backend_of(connection: Connection) -> int:
    """Return the process id of the session in the server; of no use through a pooler."""
    return session_of(connection).info.backend_pid


def server_of(connection: Connection) -> str:
    """Return what a connection leads to, as a URL without a password."""
    return show_server(session_of(connection).info)


def connect(engine: Engine, seconds: float) -> Connection:
    """Return a connection, new or from the pool, within so many seconds.

    A first connection reads a few things from the server, which a silent server would leave unanswered.
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
    """End a statement that runs on this connection after so many seconds, whatever the server does.

    `statement_timeout` alone does not: a server that is frozen or cut off does not hold it, and its kernel goes on
    answering keepalives.
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

    psycopg's loaders raise more than `psycopg.Error` for an answer that they cannot read.
    """
    try:
        yield
    except AmpError:
        raise
    except (SQLAlchemyError, psycopg.Error, ValueError, ArithmeticError, NotImplementedError) as error:
        raise explain(error) from error


@contextmanager
def _named_timeout(limit: Deadline) -> Iterator[None]:
    """Raise what a deadline ended as a timeout: the server's error says only that the statement was cancelled."""
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        if limit.is_expired:
            message = f"the metadata DB did not answer within {limit.seconds:.1f} s"
            raise MetadataDbError("timeout", message) from error
        raise


def _discard_outdated_sessions(context: ExceptionContext) -> None:
    """Have SQLAlchemy replace all sessions of the pool, as it does where one of them is disconnected."""
    connection, sqlstate = context.connection, getattr(context.original_exception, "sqlstate", None) or ""
    if sqlstate[:2] in _CURED_BY_A_NEW_SESSION and connection is not None and not session_of(connection).is_kept:
        context.is_disconnect = True


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


_opening: ContextVar[Deadline | None] = ContextVar("_opening", default=None)
