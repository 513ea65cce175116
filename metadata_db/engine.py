"""Connections to the metadata DB: every one with time limits, a name and keepalives."""

import os
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count
from typing import Any, LiteralString, Self, cast

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from amp_workers.metadata_db.errors import MetadataDbError, explain
from amp_workers.metadata_db.url import MetadataDbUrl, show_server

CONNECT_TIMEOUT_SECONDS = 3
"""libpq's own lower bound is 2 s."""

_CANCEL_GRACE_SECONDS = 0.5

# A peer that vanished without a word (a pulled cable, a dead host) is noticed after 5 + 3 x 2 s while idle, and
# after 8 s while it owes us an acknowledgement: the kernel's defaults are two hours and a quarter of an hour.
_KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
}


class Session(psycopg.Connection[Any]):
    """A connection of the driver's, which knows what it leads to."""

    through_pooler = True
    """Whether a pooler answers, which gives each transaction any of its sessions. It may, until PostgreSQL has."""

    local_settings = sql.Composed([])
    """The statements that each transaction has to begin with there, where no session keeps settings."""


def pooled_engine(url: MetadataDbUrl, application_name: str, *, connections: int, statement_timeout: float) -> Engine:
    """Return an engine whose pool never holds more than so many connections, in which no statement can write.

    statement_timeout: in seconds, held by the server. Through a connection pooler, that and the ban on writing hold in
    a `transaction` alone.
    """
    settings = {
        "statement_timeout": _milliseconds(statement_timeout),
        "timezone": "UTC",
        "default_transaction_read_only": "on",
        "jit": "off",  # a statement that is over in a fraction of a second has no time to be compiled first
        "work_mem": "64MB",
    }
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: _open(url, application_name, settings),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )


def single_engine(url: MetadataDbUrl, application_name: str, *, statement_timeout: float) -> Engine:
    """Return an engine without a pool; for `connect`: each session is one of its own, as its locks need.

    A connection pooler may be in between, which refuses settings in the startup packet and has no session to keep
    them: `statement_timeout` is then not held by the server, and a `deadline` alone holds.
    """
    settings = {"statement_timeout": _milliseconds(statement_timeout)}
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: _open(url, application_name, settings),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        # Nothing is left to roll back where each statement commits, least of all on a connection that broke.
        skip_autocommit_rollback=True,
        hide_parameters=True,
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
    return session_of(connection).info.transaction_status is not TransactionStatus.IDLE


def backend_of(connection: Connection) -> int:
    """Return the process id of the session in the server; of no use through a pooler."""
    return session_of(connection).info.backend_pid


def server_of(connection: Connection) -> str:
    """Return what a connection leads to, as a URL without a password."""
    return show_server(session_of(connection).info)


def connect(engine: Engine, seconds: float) -> Connection:
    """Return a connection, new or from the pool, within so many seconds.

    A first connection asks the server a few things on its own, which a silent server would leave unanswered.
    """
    watch = _Deadline(seconds)
    token = _opening.set(watch)
    try:
        with watch, watch.told():
            return engine.connect()
    finally:
        _opening.reset(token)


@contextmanager
def deadline(connection: Connection, seconds: float) -> Iterator[None]:
    """End whatever runs on this connection after so many seconds, whatever has become of the server.

    The server is asked to cancel first, which keeps the session; a pooler is not, since PgBouncer is known to die of
    that now and then (its issue 801). A server that does not even answer that (stopped, cut off) has the connection
    taken away from under it: nothing else wakes a thread that waits for a silent peer, since `statement_timeout` is the
    server's own and keepalives are answered by its kernel.
    """
    watch = _Deadline(seconds, session_of(connection))
    with watch, watch.told():
        yield


@contextmanager
def told() -> Iterator[None]:
    """Raise what goes wrong inside as a `MetadataDbError`."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError, psycopg.Error) as error:
        raise explain(error) from error


def _open(url: MetadataDbUrl, application_name: str, settings: Mapping[str, str]) -> Session:
    session = _connect(url, application_name)
    try:
        session.autocommit = True
        # A pooler makes up the process id that it greets a client with: PostgreSQL's own is another one. It refuses
        # settings in the startup packet, so that nobody gets them there.
        direct = session.execute(
            "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS setting(name, value) "
            "WHERE pg_backend_pid() = %s",
            [list(settings), list(settings.values()), session.info.backend_pid],
        ).fetchall()
    except psycopg.Error:
        session.close()
        raise
    session.through_pooler = not direct
    if not direct:
        session.local_settings = _local(settings)
        session.prepare_threshold = None  # the next transaction may be in a session without the statement
    return session


def _local(settings: Mapping[str, str]) -> sql.Composed:
    """Return a SET LOCAL for each setting. After a query, set_config() say, a transaction has taken its snapshot."""
    each = [sql.SQL("; SET LOCAL {} = {}").format(sql.Identifier(item[0]), item[1]) for item in settings.items()]
    return sql.Composed(each)


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _connect(url: MetadataDbUrl, application_name: str) -> Session:
    try:
        session = Session.connect(
            url.conninfo,
            fallback_application_name=application_name,  # the URL, or PGAPPNAME, may give another
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            client_encoding="utf8",  # the database's own may be SQL_ASCII, which psycopg reads as bytes
            **_KEEPALIVES,
        )
    except psycopg.Error as error:
        # The frames of the traceback hold the socket of an attempt that timed out, until a garbage collection finds
        # them: a server that was frozen would have all those attempts as sessions when it wakes.
        traceback.clear_frames(error.__traceback__)
        raise
    watch = _opening.get()
    if watch is not None:
        watch.begin(session)
    return session


class _Deadline:
    """A moment after which a session is ended, unless what runs on it is over by then."""

    def __init__(self, seconds: float, session: Session | None = None) -> None:
        self._session = session
        self._seconds = seconds
        self._is_late = False
        self._done = threading.Event()
        self._ending: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def __enter__(self) -> Self:
        _alarm.set(time.monotonic() + self._seconds, self)
        return self

    def begin(self, session: Session) -> None:
        """Hold a session that has just been opened to the deadline, or to one as long where it took longer than that:
        libpq tries one address after the other, each for CONNECT_TIMEOUT_SECONDS."""
        with self._lock:
            self._session = session
            if self._is_late:
                _alarm.set(time.monotonic() + self._seconds, self)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._done.set()
            self._session = None
        if self._ending is not None:
            self._ending.join()  # a request to cancel must not meet the next statement

    @contextmanager
    def told(self) -> Iterator[None]:
        """Call an error what it is: not the server's doing, but ours, who waited no longer."""
        try:
            yield
        except (DBAPIError, psycopg.Error) as error:
            if self._ending is not None:
                message = f"the metadata DB did not answer within {self._seconds:.1f} s"
                raise MetadataDbError("timeout", message) from error
            raise

    def expire(self) -> None:
        """End the session, in a thread: it takes a while, and other deadlines must not wait for it."""
        with self._lock:
            if self._done.is_set():
                return
            if self._session is None:
                self._is_late = True
                return
            self._ending = threading.Thread(target=self._end, args=(self._session,), name="deadline", daemon=True)
            self._ending.start()

    def _end(self, session: Session) -> None:
        if not session.through_pooler:
            with suppress(psycopg.Error):
                session.cancel_safe(timeout=_CANCEL_GRACE_SECONDS)
            if self._done.wait(_CANCEL_GRACE_SECONDS):
                return
        self._shut_down(session)

    @staticmethod
    def _shut_down(session: Session) -> None:
        # An error here means that it was closed in the meantime.
        # A duplicate: closing the Python object must leave libpq's own descriptor alone.
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(session.fileno())) as peer:
            peer.shutdown(socket.SHUT_RDWR)


class _Alarm:
    """Expires deadlines in their time. One thread for all: one for each would cost more than a heartbeat does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._deadlines: list[tuple[float, int, _Deadline]] = []
        self._numbers = count()
        self._thread: threading.Thread | None = None

    def set(self, moment: float, deadline: _Deadline) -> None:
        """Expire a deadline at a moment of the monotonic clock, if it is not done by then."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            entry = (moment, next(self._numbers), deadline)
            heappush(self._deadlines, entry)
            if self._deadlines[0] is entry:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._deadlines and self._deadlines[0][2].is_done:
                    heappop(self._deadlines)
                if not self._deadlines:
                    self._changed.wait()
                    continue
                moment, _, deadline = self._deadlines[0]
                late = time.monotonic() - moment
                if late < 0:
                    self._changed.wait(-late)
                    continue
                heappop(self._deadlines)
            deadline.expire()


_alarm = _Alarm()


def _forget_alarms() -> None:
    """In a process that was forked: the sessions are its parent's, which has a thread to end them in time."""
    global _alarm  # noqa: PLW0603 - what it has may have been copied in the middle of a change
    _alarm = _Alarm()


os.register_at_fork(after_in_child=_forget_alarms)

_opening: ContextVar[_Deadline | None] = ContextVar("_opening", default=None)
