"""A metadata DB that is a standby: how far its replay lags behind its primary, and what that does to reads."""

import logging
import threading
from contextlib import suppress

from psycopg import errors as pg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from amp_workers.metadata_db.engine import session_of, through_pooler

LAGGING_SECONDS = 5.0
"""A lag of more is reported: live workers look stale from there on."""

# A caught-up standby of an idle primary replays no commit for as long as the primary writes none, and misses nothing:
# only the positions in the WAL show that. They are worth something only while a WAL receiver runs. A standby that
# replays from an archive has none, nor has one that lost its primary. Nothing in such a server shows what it misses, so
# that the age of the last commit counts, or the time since the server's start if none was replayed since then.
_REPLAY_LAG = """
SELECT CASE
    WHEN NOT pg_is_in_recovery() THEN NULL
    WHEN pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0
    ELSE greatest(extract(epoch FROM clock_timestamp() - coalesce(
        pg_last_xact_replay_timestamp(), pg_postmaster_start_time())), 0)
END::float8
"""

_log = logging.getLogger("amp_workers.metadata_db")


class ReplayLag:
    """The lag of one metadata DB as last observed. It logs one line when a lag starts and one when it ends."""

    def __init__(self, name: str) -> None:
        """name: what the log calls the metadata DB."""
        self._name = name
        self._lock = threading.Lock()
        self._seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """None on a primary."""
        return self._seconds

    @property
    def warning(self) -> str | None:
        """What errors and `/-/ready` say while the standby lags."""
        seconds = self._seconds
        if not _is_lagging(seconds):
            return None
        return (
            f"the metadata DB is a standby that lags {seconds:.0f} s behind its primary, so that live workers look "
            "stale or lost: read from the primary"
        )

    def observe(self, connection: Connection) -> None:
        """Read the lag of the server that a connection leads to."""
        seconds = _replay_lag(connection)
        with self._lock:
            before, self._seconds = self._seconds, seconds
        if _is_lagging(seconds) and not _is_lagging(before):
            _log.warning("%s: %s", self._name, self.warning)
        elif _is_lagging(before) and not _is_lagging(seconds):
            _log.warning("%s: the metadata DB lags no longer", self._name)

    def is_recovery_conflict(self, error: BaseException | None) -> bool:
        """Whether a standby canceled a statement, or ended its session, because it was in the way of the replay.

        The same statement in a new snapshot is not in the way.
        """
        cause = error.orig if isinstance(error, DBAPIError) else error
        # Statements that only read meet neither of the first two on a primary; the deadlock is one with the replay.
        is_canceled = isinstance(cause, pg.QueryCanceled) and self._seconds is not None
        return is_canceled or isinstance(cause, pg.SerializationFailure | pg.DeadlockDetected)

    def observe_after_error(self, connection: Connection) -> None:
        """Read the lag where the session survived the error."""
        if not connection.invalidated:
            with suppress(DBAPIError):
                self.observe(connection)


def _is_lagging(seconds: float | None) -> bool:
    return seconds is not None and seconds > LAGGING_SECONDS


def _replay_lag(connection: Connection) -> float | None:
    # PostgreSQL 14 and newer report `in_hot_standby` on their own: a primary costs no round trip. Behind a pooler, what
    # is reported may be another session's.
    reported = session_of(connection).info.parameter_status("in_hot_standby")
    if reported == "off" and not through_pooler(connection):
        return None
    seconds: float | None = connection.exec_driver_sql(_REPLAY_LAG).scalar_one()
    return seconds
