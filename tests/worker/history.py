"""The history of writes to the workers table, in the order in which they happened."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

Sql = Callable[..., list[Any]]


def keep_history(sql: Sql) -> None:
    """Make PostgreSQL record each write with the writer's application name, which a process takes from PGAPPNAME.

    The row itself does not identify the writer: a replaced process would write under its successor's name.
    """
    sql(
        "CREATE TABLE history (id bigserial, node_id text, writer text DEFAULT current_setting('application_name'), "
        "registered_at timestamptz, heartbeat_at timestamptz, arrived_at timestamptz DEFAULT clock_timestamp())"
    )
    sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO history (node_id, "
        "registered_at, heartbeat_at) VALUES (NEW.node_id, NEW.registered_at, NEW.heartbeat_at); RETURN NULL; END $$"
    )
    sql("CREATE TRIGGER note AFTER INSERT OR UPDATE ON workers FOR EACH ROW EXECUTE FUNCTION note()")


def reigns(sql: Sql, node_id: str) -> list[str]:
    """Return the writers of a node id's row in order, one entry per uninterrupted run of writes."""
    rows = sql("SELECT writer FROM history WHERE node_id = %s ORDER BY id", node_id)
    return [writer for writer, _ in groupby(row[0] for row in rows)]


def registrations(sql: Sql, node_id: str) -> list[tuple[Any, str]]:
    """Return the registrations of a node id with their writers in order, one entry per uninterrupted run of writes."""
    rows = sql("SELECT registered_at, writer FROM history WHERE node_id = %s ORDER BY id", node_id)
    return [registration for registration, _ in groupby(rows)]
