"""Reads for a server: few connections, a deadline for every read, and one log line per change of an outage."""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from amp_workers.metadata_db.engine import connect, deadline, pooled_engine, server_of, translate_errors
from amp_workers.metadata_db.errors import MetadataDbError
from amp_workers.metadata_db.schema_compat import check_compatible
from amp_workers.metadata_db.single_flight import SingleFlight
from amp_workers.metadata_db.standby import ReplayLag
from amp_workers.metadata_db.url import MetadataDbUrl
from amp_workers.metadata_db.workers import check_schema

Result = TypeVar("Result")

_CONFLICT_PAUSE_SECONDS = 0.05
_READINESS_SECONDS = 1.0

_log = logging.getLogger("amp_workers.metadata_db")


class Reader:
    """Runs reads on a pool of so many connections, from any thread. It logs the start and the end of each outage."""

    def __init__(
        self, url: MetadataDbUrl, application_name: str, *, connections: int, statement_timeout: float
    ) -> None:
        # What sessions are connected to. The URL may leave that to a service file or to PG* variables.
        self._server = f"{url}"
        self._engine = pooled_engine(
            url, application_name, connections=connections, statement_timeout=statement_timeout
        )
        # The connections of the pool are closed when the reader is garbage-collected.
        weakref.finalize(self, self._engine.dispose)
        self._lock = threading.Lock()
        self._trouble: str | None = None
        self.replay_lag = ReplayLag(f"{url}")
        self._readiness = SingleFlight[None](_READINESS_SECONDS)

    def query(self, run: Callable[[Connection], Result], seconds: float) -> Result:
        """Return what `run` returns, within so many seconds.

        Raises:
            MetadataDbError: no answer, or not in time.
        """
        ends = time.monotonic() + seconds
        try:
            result = self._query(run, ends)
        except MetadataDbError as error:
            self._log_change(error.reason, f"{error}")
            if self.replay_lag.warning is None:
                raise
            raise MetadataDbError(error.reason, f"{error}; {self.replay_lag.warning}") from error
        self._log_change(None, f"the metadata DB {self._server} is available again")
        return result

    def check(self, seconds: float) -> None:
        """Check that workers can be read. All calls within one second share a query, and its error.

        Raises:
            MetadataDbError: they cannot be read, or not in time.
        """
        self._readiness.run(lambda: self.query(check_schema, seconds))

    def _query(self, run: Callable[[Connection], Result], ends: float) -> Result:
        may_repeat = True
        conflict: MetadataDbError | None = None
        while True:
            seconds = max(0.0, ends - time.monotonic())
            try:
                with translate_errors(), connect(self._engine, seconds) as connection, deadline(connection, seconds):
                    return self._observed(connection, run)
            except MetadataDbError as error:
                cause = error.__cause__
                if self.replay_lag.is_recovery_conflict(cause) and time.monotonic() + _CONFLICT_PAUSE_SECONDS < ends:
                    conflict = error
                    time.sleep(_CONFLICT_PAUSE_SECONDS)
                    continue
                # The last attempt may have too little time for an answer. The conflict is the reason.
                if conflict is not None and error.reason == "timeout":
                    raise conflict from conflict.__cause__
                # A pooled session may be outdated: its server restarted, a table or a search_path changed. SQLAlchemy
                # has emptied the pool by now, so that the second attempt has a new session. A read can be repeated
                # safely.
                is_outdated = isinstance(cause, DBAPIError) and cause.connection_invalidated
                if not is_outdated or not may_repeat or time.monotonic() >= ends:
                    raise
                may_repeat = False

    def _observed(self, connection: Connection, run: Callable[[Connection], Result]) -> Result:
        try:
            check_compatible(connection)
            result = run(connection)
        except DBAPIError:
            self.replay_lag.observe_after_error(connection)
            raise
        self.replay_lag.observe(connection)
        if self._trouble is not None:
            self._server = server_of(connection)
        return result

    def _log_change(self, trouble: str | None, message: str) -> None:
        with self._lock:
            changed, self._trouble = trouble != self._trouble, trouble
        if changed:
            # The end of an outage has the level of its start: a log of warnings shows both.
            _log.warning("%s", message, extra={"reason": trouble, "url": self._server})
