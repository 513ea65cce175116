"""Amp's own metadata DB in each of its ages, and a worker of Amp's own in it."""

import json
from collections.abc import Mapping
from typing import Any, Self

import psycopg

MIGRATIONS = {
    20241021142330: """
        CREATE TABLE workers (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, node_id text UNIQUE NOT NULL,
            last_heartbeat timestamp NOT NULL
        );
        CREATE TABLE jobs (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, node_id text NOT NULL REFERENCES workers (node_id),
            descriptor jsonb NOT NULL
        )
    """,
    20251030111407: """
        ALTER TABLE workers ADD COLUMN info jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(),
            ADD COLUMN registered_at timestamptz NOT NULL DEFAULT now();
        ALTER TABLE workers RENAME COLUMN last_heartbeat TO heartbeat_at
    """,
    20251219050000: """
        ALTER TABLE workers ALTER COLUMN heartbeat_at TYPE timestamptz USING heartbeat_at AT TIME ZONE 'UTC'
    """,
    20260304000000: """
        CREATE TABLE jobs_status (
            job_id bigint PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE, node_id text NOT NULL,
            status text NOT NULL, updated_at timestamptz NOT NULL DEFAULT timezone('UTC', now())
        );
        ALTER TABLE jobs DROP COLUMN node_id
    """,
}
"""What its migrations do to `workers`, and to whom names a worker."""

FIRST, WITH_INFO, WITH_ZONES, TODAYS = MIGRATIONS

TOO_OLD = (FIRST, WITH_INFO)
"""Ages of the schema that this project refuses."""

BUILD = {
    "version": "v0.0.22-15-g8b065bde",
    "commit_sha": "8b065bde9c1a2f3e4d5c6b7a8e9f0a1b2c3d4e5f",
    "commit_timestamp": "2025-01-15T09:30:00-05:00",
    "build_date": "2025-01-15",
}
"""What a worker of Amp's says of itself: one moment with an offset, and a date."""

TIME_ZONE = "Asia/Kolkata"
"""Whoever takes UTC for local time here is wrong by five and a half hours."""


def connect(url: str) -> psycopg.Connection[Any]:
    """As Amp connects: in UTC, whatever the database's own time zone."""
    return psycopg.connect(url, autocommit=True, options="-c timezone=UTC")


def migrate(url: str, age: int) -> None:
    """Bring a database to an age, from nothing or from an older one."""
    with connect(url) as connection:
        name = connection.info.dbname
        connection.execute(
            psycopg.sql.SQL("ALTER DATABASE {} SET timezone = {}").format(psycopg.sql.Identifier(name), TIME_ZONE)
        )
        connection.execute("CREATE TABLE IF NOT EXISTS _sqlx_migrations (version bigint PRIMARY KEY, success boolean)")
        done = {row[0] for row in connection.execute("SELECT version FROM _sqlx_migrations")}
        for version, statements in MIGRATIONS.items():
            if version <= age and version not in done:
                connection.execute(statements.encode())
                connection.execute("INSERT INTO _sqlx_migrations VALUES (%s, true)", [version])


class AmpsWorker:
    """What a Rust worker does in its session."""

    def __init__(self, url: str, age: int, node_id: str) -> None:
        self._session = connect(url)
        self._first = age == FIRST
        self._node_id = node_id

    def lock(self) -> bool:
        found = self._session.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [self._node_id])
        return bool(found.fetchall()[0][0])

    def register(self, info: Mapping[str, str] = BUILD) -> None:
        if self._first:
            self._session.execute(
                "INSERT INTO workers (node_id, last_heartbeat) VALUES (%s, timezone('UTC', now())) "
                "ON CONFLICT (node_id) DO UPDATE SET last_heartbeat = excluded.last_heartbeat",
                [self._node_id],
            )
        else:
            self._session.execute(
                "INSERT INTO workers (node_id, info, created_at, registered_at, heartbeat_at) VALUES "
                "(%s, %s, timezone('UTC', now()), timezone('UTC', now()), timezone('UTC', now())) "
                "ON CONFLICT (node_id) DO UPDATE SET info = excluded.info, registered_at = excluded.registered_at, "
                "heartbeat_at = excluded.heartbeat_at",
                [self._node_id, json.dumps(dict(info))],
            )

    def beat(self) -> None:
        column = "last_heartbeat" if self._first else "heartbeat_at"
        statement = f"UPDATE workers SET {column} = timezone('UTC', now()) WHERE node_id = %s"
        self._session.execute(statement.encode(), [self._node_id])

    def was_silent_for(self, seconds: float) -> None:
        column = "last_heartbeat" if self._first else "heartbeat_at"
        statement = f"UPDATE workers SET {column} = {column} - make_interval(secs => %s) WHERE node_id = %s"
        self._session.execute(statement.encode(), [seconds, self._node_id])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()


def register(url: str, age: int, node_id: str, info: Mapping[str, str] = BUILD, silent_for: float = 0) -> None:
    """Leave a row as a worker of Amp's leaves it."""
    with AmpsWorker(url, age, node_id) as worker:
        worker.register(info)
        worker.was_silent_for(silent_for)
