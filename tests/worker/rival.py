"""A process that takes a node id over from a disconnected worker, with no more information than the worker sees."""

from collections.abc import Callable
from typing import Any

from tests.processes import eventually

END_HOLDER = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_locks.database = pg_database.oid
WHERE locktype = 'advisory' AND datname = current_database() AND pid <> pg_backend_pid()
"""


def take_over(sql: Callable[..., list[Any]]) -> None:
    """End the worker's session, take its lock before the worker connects again, and register."""
    [(node_id,)] = sql("SELECT node_id FROM workers")

    def is_locked() -> bool:
        sql(END_HOLDER)
        return sql("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", node_id) == [(True,)]

    eventually(is_locked)
    sql("UPDATE workers SET registered_at = now()")
