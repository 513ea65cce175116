"""What tests share: a real PostgreSQL, a fresh database per test, and processes that end with the test."""

import contextlib
import gc
import os
import signal
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from amp_workers.metadata_db import MetadataDbUrl
from amp_workers.metadata_db.embedded import EmbeddedPostgres, ignore_libpq_environment
from amp_workers.metadata_db.migrate import upgrade
from tests.admin.witness import witness
from tests.clusters import own_postgres, remove
from tests.memory import memory
from tests.processes import Processes, eventually, free_port

ignore_libpq_environment(os.environ)

MIGRATED = "migrated"
"""The template database of the session's server. Tests with a workers table copy it."""

_ROOM = 4 * 2**30
"""Bytes. The databases of all processes need less."""

_numbers = count(1)


# A shell that starts the tests in the background makes them, and every process that they start, ignore these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ignored in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_ignored, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first: a few processes share the files, and none should be left with a slow file at the
    end.

    A test with its own timeout takes minutes, a test marked as slow takes seconds.
    """
    seconds: dict[Path, float] = defaultdict(float)
    seen = set()
    for item in items:
        if timeout := item.get_closest_marker("timeout"):
            seconds[item.path] = max(seconds[item.path], timeout.args[0])
        test = (item.path, item.name.partition("[")[0])  # the parameters of a test often share what takes the time
        if item.get_closest_marker("slow") and test not in seen:
            seconds[item.path] += 10
            seen.add(test)
    items.sort(key=lambda item: -seconds[item.path])


def pytest_collection_finish() -> None:
    """Exempt what the tests have imported from garbage collection: a collection would look at all of it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def open_directory() -> Iterator[Path]:
    """A directory that another account can enter, which pytest's own is not. Its name is short.

    It is in memory where there is room: to create and to remove the 300 files of a database takes 0.15 s on a disk.
    """
    directory = Path(tempfile.mkdtemp(prefix="amp-test-", dir=memory(_ROOM)))
    directory.chmod(0o755)
    yield directory
    remove(directory)


@pytest.fixture(scope="session")
def postgres(open_directory: Path) -> Iterator[EmbeddedPostgres]:
    with own_postgres(open_directory / "postgres") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {MIGRATED}".encode())
            upgrade(MetadataDbUrl.parse(_url_of(server, MIGRATED)))
            # CREATE DATABASE fails while a session uses its template.
            connection.execute(f"ALTER DATABASE {MIGRATED} ALLOW_CONNECTIONS false".encode())
        yield server


def _url_of(server: EmbeddedPostgres, name: str) -> str:
    return server.url.replace("/postgres?", f"/{name}?")


@contextlib.contextmanager
def fresh_database(postgres: EmbeddedPostgres, options: str = f"TEMPLATE {MIGRATED}") -> Iterator[str]:
    """Create a database, yield its URL, and drop it. By default it has an empty workers table."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        # Without fsync, copies of files take half the time of a copy that is logged. PostgreSQL 14 has no other way.
        strategy = "STRATEGY file_copy" if connection.info.server_version >= 150_000 else ""
        connection.execute(f'CREATE DATABASE "{name}" {options} {strategy}'.encode())
    yield _url_of(postgres, name)
    with psycopg.connect(postgres.url, autocommit=True) as connection:

        def drop() -> bool:
            # PostgreSQL waits up to 5 s for the sessions that it terminates.
            with contextlib.suppress(psycopg.errors.ObjectInUse):
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
                return True
            return False

        eventually(drop)


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    with fresh_database(postgres, "") as url:
        yield url


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database with an empty workers table."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def sql(database: str) -> Iterator[Callable[..., list[Any]]]:
    """Run SQL in the test's database: `sql("SELECT …", parameter)` returns the rows."""
    with psycopg.connect(database, autocommit=True) as connection:

        def execute(statement: str, *parameters: object) -> list[Any]:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

        yield execute


@pytest.fixture
def stopped_clock(sql: Callable[..., list[Any]]) -> None:
    """Make `clock_timestamp()` return a fixed time in the test's database: in `sql`, and in each later session."""
    [(name, now)] = sql("SELECT current_database(), clock_timestamp()::text")
    sql(f"CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '{now}' $$")
    sql(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
    sql("SET search_path = public, pg_catalog")


Insert = Callable[..., None]


@pytest.fixture
def insert_worker(sql: Callable[..., list[Any]]) -> Insert:
    """Insert a row as a worker would leave it: `insert_worker("w", age=3.0, info='{"version": "v1"}')`."""

    def insert(node_id: str, age: float = 0.0, info: str = "{}") -> None:
        sql(
            "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) VALUES (%s, "
            "clock_timestamp() - make_interval(secs => %s), %s, now() - interval '2 days', now() - interval '1 day')",
            node_id,
            age,
            info,
        )

    return insert


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path, forks_ampd=True)
    yield started
    started.end()


Witnessed = Callable[[int], int]


@pytest.fixture
def witnessed() -> Iterator[Witnessed]:
    """Check each response of a running Admin API: `witnessed(port)` is the port to send requests to."""
    with contextlib.ExitStack() as relays:
        yield lambda port: relays.enter_context(witness(port))


@pytest.fixture
def unused_port() -> int:
    return free_port()
