"""Migrates the schema of a metadata DB. Amp's own database is not changed."""

import logging
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, func, inspect, select

from amp_workers.metadata_db.amp_database import amp_database
from amp_workers.metadata_db.engine import connect, deadline, server_of, session_of, single_engine, translate_errors
from amp_workers.metadata_db.errors import MetadataDbError
from amp_workers.metadata_db.schema import workers
from amp_workers.metadata_db.session import CONNECT_TIMEOUT_SECONDS
from amp_workers.metadata_db.url import MetadataDbUrl

Result = TypeVar("Result")

_log = logging.getLogger("amp_workers.metadata_db")

VERSION_TABLE = "ampd_alembic_version"

STATEMENT_TIMEOUT_SECONDS = 300.0
"""A migration may wait for another one, and rewrite a large table."""

_RETRIED_REASONS = ("unreachable", "timeout")
_RETRY_SECONDS = 1.0


class Outcome(Enum):
    """The result of `upgrade`."""

    MIGRATED = "the schema of the workers table is now up to date"
    UP_TO_DATE = "the schema of the workers table was up to date already"
    AMPS_OWN = "this database is Amp's own: Amp migrates its schema itself, nothing was changed"


def upgrade(
    url: MetadataDbUrl,
    timeout: float = 0.0,
    connected: Callable[[str], None] = lambda _: None,
    waiting: Callable[[MetadataDbError], None] = lambda _: None,
) -> Outcome:
    """Create the `workers` table, or bring it up to date. Safe to run from many processes at once.

    timeout: seconds to wait for a database that is unavailable. connected: called with the server's URL, without a
    password. waiting: called with the error, whenever it changes.

    Raises:
        MetadataDbError: the database is unavailable after the timeout, refuses (wrong password, missing database or
            privilege), or has a `workers` table that is not Amp's.
    """

    def run(connection: Connection) -> Outcome:
        connected(server_of(connection))
        return _upgrade(connection)

    ends = time.monotonic() + timeout
    reported: str | None = None
    while True:
        try:
            return _with_lock(url, run)
        except MetadataDbError as error:
            if error.reason not in _RETRIED_REASONS or time.monotonic() + _RETRY_SECONDS >= ends:
                raise
            if str(error) != reported:
                reported = str(error)
                waiting(error)
        time.sleep(_RETRY_SECONDS)


def downgrade(url: MetadataDbUrl) -> None:
    """Drop what `upgrade` created, with all workers."""

    def run(connection: Connection) -> None:
        command.downgrade(_config(connection), "base")

    _with_lock(url, run)


def _upgrade(connection: Connection) -> Outcome:
    amp = amp_database(connection)
    if amp is not None:
        _log.info("%s", amp)
        return Outcome.AMPS_OWN
    tables = set(inspect(connection).get_table_names())
    config = _config(connection)
    current = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if current is not None and workers.name not in tables:
        # The table was dropped, and Alembic's version table was not.
        command.stamp(config, "base")
        current = None
    if current == ScriptDirectory.from_config(config).get_current_head():
        return Outcome.UP_TO_DATE
    if current is None and workers.name in tables:
        _check_columns(connection)
        command.stamp(config, "head")
        return Outcome.UP_TO_DATE
    command.upgrade(config, "head")
    return Outcome.MIGRATED


def _check_columns(connection: Connection) -> None:
    """Raise an error where an existing `workers` table lacks columns. One that has them all is used as it is."""
    present = {column["name"] for column in inspect(connection).get_columns(workers.name)}
    missing = [column.name for column in workers.columns if column.name not in present]
    if missing:
        raise MetadataDbError(
            "schema",
            f"this database has a table named workers that is not Amp's: it lacks {', '.join(missing)}; "
            "nothing was changed",
        )


def _with_lock(url: MetadataDbUrl, run: Callable[[Connection], Result]) -> Result:
    """Run in one transaction, under a lock that excludes other migrations. DDL is transactional in PostgreSQL."""
    engine = single_engine(url, "ampd migrate", statement_timeout=STATEMENT_TIMEOUT_SECONDS)
    with (
        translate_errors(),
        connect(engine, CONNECT_TIMEOUT_SECONDS) as connection,
        deadline(connection, STATEMENT_TIMEOUT_SECONDS),
    ):
        transactional = connection.execution_options(isolation_level="READ COMMITTED")
        with transactional.begin():
            # Where the session keeps its settings, the statement must not be empty.
            transactional.exec_driver_sql((sql.SQL("SELECT") + session_of(connection).local_settings).as_string())
            transactional.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(VERSION_TABLE, 0))))
            return run(transactional)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "amp_workers.metadata_db:migrations")
    config.attributes["connection"] = connection
    return config
