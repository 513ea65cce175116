"""A session with the metadata DB: bounded in time, named, and independent of the operator's settings."""

import time
import traceback
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import Buffer, Params, PQGen
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus

from amp_workers.metadata_db.errors import explain_failed_connection
from amp_workers.metadata_db.url import MetadataDbUrl

Result = TypeVar("Result")

CONNECT_TIMEOUT_SECONDS = 3
"""libpq's own lower bound is 2 s."""

_ABANDONED_SECONDS = 1.0
"""How long a statement through a pooler may run on after its deadline: it cannot be cancelled."""

_CANCEL_SECONDS = 0.5
"""How long a server may take to accept a cancel request, and then to end the statement."""

# A dead peer is detected after 5 + 3 x 2 s while the session is idle, and after 8 s while an acknowledgement is due.
# The kernel's defaults are two hours and a quarter of an hour.
_KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
}

_SETTINGS = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "client_min_messages": "warning",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "off",  # PostgreSQL raises an error instead of hiding rows
    "jit": "off",  # compilation would take longer than these statements
}
"""The settings that every session relies on. The environment (PGDATESTYLE, PGOPTIONS, PGTZ), the URL, the role and the
database may set other values. `search_path` is left to them, and so is `default_transaction_read_only` of a session
that writes: operators and cloud services protect databases with it."""

_TRANSACTION_TIMEOUT_VERSION = 170_000


class Deadline:
    """A moment after which a session no longer waits for the server."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_expired = False
        self._ends = time.monotonic() + seconds

    def extend(self) -> None:
        """Allow the same time again, if less is left."""
        self._ends = max(self._ends, time.monotonic() + self.seconds)

    def remaining(self) -> float:
        """Return the seconds that are left; negative after the deadline."""
        return self._ends - time.monotonic()


class _TimestamptzLoader(Loader):
    """Parses timestamps in `DateStyle = ISO`. psycopg's own loader uses the session's DateStyle, which through a pooler
    differs from that of the statement once its transaction has ended."""

    def load(self, data: Buffer) -> datetime:
        return datetime.fromisoformat(bytes(data).decode())


class Session(psycopg.Connection[Any]):
    """A connection that does not wait for longer than its deadline."""

    through_pooler = True
    """Whether the connection goes to a pooler, which may run each transaction in another session. True until PostgreSQL
    itself has answered."""

    deadline: Deadline | None = None
    is_kept = False
    """Whether the session is kept although a statement fails."""

    begin = sql.SQL("BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE")
    settings: Mapping[str, str] = {}
    """What each transaction sets for itself, where no session keeps settings."""

    @property
    def local_settings(self) -> sql.Composed:
        """`SET LOCAL` for each of the settings. Each begins with `;`."""
        settings = dict(self.settings)
        if settings and self.deadline is not None:
            left = round(1000 * (max(self.deadline.remaining(), 0.0) + _ABANDONED_SECONDS))
            settings["statement_timeout"] = str(min(left, int(settings["statement_timeout"])))
        # SET LOCAL, since a query such as set_config() takes the transaction's snapshot.
        each = [sql.SQL("; SET LOCAL {} = {}").format(sql.Identifier(name), value) for name, value in settings.items()]
        return sql.Composed(each)

    def has_status(self, status: TransactionStatus) -> bool:
        """Whether the transaction, or the absence of one, is in this state."""
        return self.info.transaction_status is status

    def wait(self, gen: PQGen[Result], *args: Any, **kwargs: Any) -> Result:
        """Wait for the server; psycopg calls this for every statement.

        Raises:
            ConnectionTimeout: the server did not answer in time, and the session is closed.
        """
        if self.deadline is not None:
            gen = self._bounded(gen, self.deadline)
        return super().wait(gen, *args, **kwargs)

    def _bounded(self, gen: PQGen[Result], deadline: Deadline) -> PQGen[Result]:
        """Cancel the statement at the deadline, which keeps the session; close it if the server does not react.

        No cancel request is sent to a pooler: it can crash PgBouncer (PgBouncer issue 801).
        """
        gives_up_at: float | None = None
        try:
            wait = next(gen)
            while True:
                wait = gen.send((yield wait))
                if gives_up_at is None and deadline.remaining() < 0:
                    deadline.is_expired = True
                    gives_up_at = time.monotonic() + (_CANCEL_SECONDS if self._cancel() else 0)
                if gives_up_at is not None and time.monotonic() >= gives_up_at:
                    self.close()
                    raise psycopg.errors.ConnectionTimeout(f"no answer within {deadline.seconds:.1f} s")
        except StopIteration as done:
            result: Result = done.value
            return result

    def _cancel(self) -> bool:
        if self.through_pooler:
            return False
        try:
            self.cancel_safe(timeout=_CANCEL_SECONDS)
        except psycopg.Error:
            return False
        return True


class _PooledCursor(psycopg.ClientCursor[Any]):
    """Sends a statement in one message with its transaction and its settings: a pooler keeps no session settings.
    The parameters are part of the text: PostgreSQL takes parameters for single statements only."""

    def execute(self, query: Any, params: Params | None = None, **options: Any) -> Self:
        session = self.connection
        assert isinstance(session, Session)
        begins = isinstance(query, str) and query.startswith("BEGIN")
        if begins or not session.autocommit or not session.has_status(TransactionStatus.IDLE):
            return super().execute(query, params, **options)
        assert isinstance(query, str)
        try:
            super().execute(f"{(session.begin + session.local_settings).as_string()}; {query}; COMMIT", params)
        except psycopg.Error:
            if session.has_status(TransactionStatus.INERROR):
                super().execute("ROLLBACK")
            raise
        return self.set_result(-2)


def open_session(
    url: MetadataDbUrl,
    application_name: str,
    settings: dict[str, str],
    *,
    read_only: bool,
    deadline: Deadline | None,
) -> Session:
    """Connect, and make the session independent of the settings of environment, URL, role and database.

    Raises:
        MetadataDbError: there is no connection.
        psycopg.Error: the session cannot be set up.
    """
    session = _connect(url, application_name)
    if deadline is not None:
        deadline.extend()  # libpq tries one address after the other, each for CONNECT_TIMEOUT_SECONDS
        session.deadline = deadline
    try:
        session.autocommit = True
        session.adapters.register_loader("timestamptz", _TimestamptzLoader)
        _set_up(session, _SETTINGS | settings | ({"default_transaction_read_only": "on"} if read_only else {}))
    except psycopg.Error:
        session.close()
        raise
    if read_only:
        session.begin = sql.SQL("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE")
    return session


def _set_up(session: Session, settings: dict[str, str]) -> None:
    if session.info.server_version >= _TRANSACTION_TIMEOUT_VERSION:
        settings["transaction_timeout"] = "0"
    # The process id that a pooler sends in its greeting is not that of PostgreSQL. The settings are not sent in the
    # startup packet, because a pooler refuses them there.
    direct = session.execute(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS setting(name, value) "
        "WHERE pg_backend_pid() = %s",
        [list(settings), list(settings.values()), session.info.backend_pid],
    ).fetchall()
    session.through_pooler = not direct
    if not direct:
        session.settings = settings
        session.cursor_factory = _PooledCursor
        session.prepare_threshold = None  # the next transaction may be in a session without the statement


def _connect(url: MetadataDbUrl, application_name: str) -> Session:
    try:
        return _attempt(url, application_name)
    except psycopg.Error as error:
        failure = explain_failed_connection(error)
        if failure.reason != "refused" or error.pgconn is None or error.pgconn.used_password:
            raise failure from error
    # A server that was starting up at the first attempt may accept connections by now.
    try:
        return _attempt(url, application_name)
    except psycopg.Error as error:
        raise explain_failed_connection(error) from error


def _attempt(url: MetadataDbUrl, application_name: str) -> Session:
    try:
        return Session.connect(
            url.conninfo,
            fallback_application_name=application_name,  # the URL, or PGAPPNAME, may give another
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            client_encoding="utf8",  # the database's own may be SQL_ASCII, which psycopg reads as bytes
            **_KEEPALIVES,
        )
    except psycopg.Error as error:
        # The frames of the traceback keep the socket of a timed-out attempt open until garbage collection: a server
        # that was frozen would then accept all these attempts as sessions.
        traceback.clear_frames(error.__traceback__)
        raise
