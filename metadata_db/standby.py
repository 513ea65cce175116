"""The replay lag of a metadata DB that is a standby, and recovery conflicts of reads."""

import logging
import threading
from contextlib import suppress

from psycopg import errors as pg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from amp_workers.metadata_db.engine import session_of, through_pooler

LAGGING_SECONDS = 5.0
"""A longer lag is reported, because live workers then look stale."""

# A standby that has caught up with an idle primary replays no commit, although it misses none: only the WAL positions
# show that. They are valid only while a WAL receiver runs. A standby that replays from an archive has no WAL receiver,
# nor has a standby that lost its primary. There the lag is the age of the last replayed commit, or the time since the
# server's start if it replayed none.
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
        """name: of the metadata DB, in log lines."""
        self._name = name
        self._lock = threading.Lock()
        self._seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """None on a primary."""
        return self._seconds

    @property
    def warning(self) -> str | None:
        """The text that errors and `/-/ready` add while the standby lags."""
        seconds = self._seconds
        if not _is_lagging(seconds):
            return None
        return (
            f"the metadata DB is a standby that lags {seconds:.0f} s behind its primary, so that live workers look "
            "stale or lost: read from the primary"
        )

    def observe(self, connection: Connection) -> None:
        """Read the lag of the server of a connection."""
        seconds = _replay_lag(connection)
        with self._lock:
            before, self._seconds = self._seconds, seconds
        if _is_lagging(seconds) and not _is_lagging(before):
            _log.warning(
                "%s: %s", self._name, self.warning, extra={"url": self._name, "lag_seconds": round(seconds or 0)}
            )
        elif _is_lagging(before) and not _is_lagging(seconds):
            _log.warning("%s: the metadata DB no longer lags behind its primary", self._name, extra={"url": self._name})

    def is_recovery_conflict(self, error: BaseException | None) -> bool:
        """Whether a standby canceled a statement, or ended its session, because of a recovery conflict.

        The same statement with a new snapshot does not conflict.
        """
        cause = error.orig if isinstance(error, DBAPIError) else error
        # On a primary, reads cause neither a serialization failure nor a deadlock.
        is_canceled = isinstance(cause, pg.QueryCanceled) and self._seconds is not None
        return is_canceled or isinstance(cause, pg.SerializationFailure | pg.DeadlockDetected)

    def observe_after_error(self, connection: Connection) -> None:
        """Read the lag if the session is still usable after an error."""
        if not connection.invalidated:
            with suppress(DBAPIError):
                self.observe(connection)


def _is_lagging(seconds: float | None) -> bool:
    return seconds is not None and seconds > LAGGING_SECONDS


def _replay_lag(connection: Connection) -> float | None:
    # PostgreSQL 14 and newer report `in_hot_standby` without a query, so a primary costs no round trip. Through a
    # pooler, the reported value may be that of another session.
    reported = session_of(connection).info.parameter_status("in_hot_standby")
    if reported == "off" and not through_pooler(connection):
        return None
    seconds: float | None = connection.exec_driver_sql(_REPLAY_LAG).scalar_one()
    return seconds
