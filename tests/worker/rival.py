"""A process that takes a node id over from a worker that is cut off, as far as the worker can see it."""

from collections.abc import Callable
from typing import Any

from tests.processes import eventually

END_HOLDER = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_locks.database = pg_database.oid
WHERE locktype = 'advisory' AND datname = current_database() AND pid <> pg_backend_pid()
"""


def take_over(sql: Callable[..., list[Any]]) -> None:
    """End the session of the one worker, take its lock before it connects again, and register."""
    [(node_id,)] = sql("SELECT node_id FROM workers")

    def is_locked() -> bool:
        sql(END_HOLDER)
        return sql("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", node_id) == [(True,)]

    eventually(is_locked)
    sql("UPDATE workers SET registered_at = now()")
