from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from amp_workers.metadata_db import MetadataDbError, MetadataDbUrl
from amp_workers.metadata_db.migrate import Outcome, downgrade, upgrade
from tests.processes import Processes

pytestmark = pytest.mark.slow


def columns(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT column_name, data_type, is_nullable, column_default, is_identity FROM information_schema.columns "
            "WHERE table_name = 'workers' ORDER BY ordinal_position"
        ).fetchall()


CONTRACT = [
    ("id", "bigint", "NO", None, "YES"),
    ("node_id", "text", "NO", None, "NO"),
    ("heartbeat_at", "timestamp with time zone", "NO", None, "NO"),
    ("info", "jsonb", "NO", "'{}'::jsonb", "NO"),
    ("created_at", "timestamp with time zone", "NO", None, "NO"),
    ("registered_at", "timestamp with time zone", "NO", None, "NO"),
]


def test_up_down_and_up_again(empty_database: str) -> None:
    url = MetadataDbUrl.parse(empty_database)
    assert upgrade(url) is Outcome.MIGRATED
    assert columns(empty_database) == CONTRACT
    assert upgrade(url) is Outcome.UP_TO_DATE
    downgrade(url)
    assert columns(empty_database) == []
    assert upgrade(url) is Outcome.MIGRATED
    assert columns(empty_database) == CONTRACT


def test_twice_at_once_from_two_processes(empty_database: str, processes: Processes) -> None:
    both = [processes.ampd("migrate", database=empty_database) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0], [process.output for process in both]
    assert sorted("up to date already" in process.output for process in both) == [False, True]
    assert columns(empty_database) == CONTRACT


@pytest.mark.parametrize(
    ("tables", "is_amps"),
    [
        (["public._sqlx_migrations", "public.workers"], True),
        (["amp._sqlx_migrations", "amp.workers"], True),
        (["amp._sqlx_migrations", "amp.jobs"], True),
        (["amp._sqlx_migrations", "amp.workers", "amp.jobs", "other._sqlx_migrations"], True),
        (["public._sqlx_migrations"], False),  # of another application
        (["public._sqlx_migrations", "other.jobs"], False),
        (["other._sqlx_migrations", "other.jobs", "amp.workers"], False),
        (["amp.workers", "amp.jobs"], False),
    ],
)
def test_amps_own_database_is_left_alone(empty_database: str, tables: list[str], is_amps: bool) -> None:
    """In whichever schema it is. Other applications also have a table `_sqlx_migrations`."""
    made = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('public', 'amp', 'other')"
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA amp")
        connection.execute("CREATE SCHEMA other")
        for table in tables:
            connection.execute(f"CREATE TABLE {table} (id bigint)".encode())
        outcome = upgrade(MetadataDbUrl.parse(empty_database))
        ours = set() if is_amps else {"public.workers", "public.ampd_alembic_version"}
        assert {row[0] for row in connection.execute(made)} == {*tables, *ours}
    assert outcome is (Outcome.AMPS_OWN if is_amps else Outcome.MIGRATED)


def test_a_table_of_another_application_is_refused_and_kept(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE workers (id int, name text)")
    with pytest.raises(MetadataDbError, match="lacks node_id, heartbeat_at, info, created_at, registered_at"):
        upgrade(MetadataDbUrl.parse(empty_database))
    assert [row[0] for row in columns(empty_database)] == ["id", "name"]


def test_a_table_that_was_dropped_is_made_again(database: str, sql: Callable[..., list[Any]]) -> None:
    sql("DROP TABLE workers")
    assert upgrade(MetadataDbUrl.parse(database)) is Outcome.MIGRATED
    assert columns(database) == CONTRACT
    assert upgrade(MetadataDbUrl.parse(database)) is Outcome.UP_TO_DATE


def test_the_urls_own_options_are_kept(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA other")
        upgrade(MetadataDbUrl.parse(f"{empty_database}&options=-csearch_path%3Dother"))
        tables = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'workers'").fetchall()
    assert tables == [("other",)]


def test_a_table_made_by_other_means_is_used(database: str, sql: Callable[..., list[Any]]) -> None:
    sql("DROP TABLE ampd_alembic_version")
    sql("INSERT INTO workers VALUES (DEFAULT, 'w', now(), '{}', now(), now())")
    assert upgrade(MetadataDbUrl.parse(database)) is Outcome.UP_TO_DATE
    assert sql("SELECT node_id FROM workers") == [("w",)]
