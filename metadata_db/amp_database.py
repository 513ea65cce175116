"""Amp's own database, which is detected by its tables, in any schema. This project does not change its schema."""

from dataclasses import dataclass

from sqlalchemy import Connection

AMP_DATABASE = """
WITH amp_tables AS (
    SELECT nspname AS schema, relname AS name FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
    WHERE relkind IN ('r', 'p') AND relname IN ('_sqlx_migrations', 'workers', 'jobs')
)
SELECT schema, name, schema = ANY (current_schemas(false)) AS is_on_search_path FROM amp_tables
WHERE schema IN (SELECT schema FROM amp_tables WHERE name = '_sqlx_migrations')
    AND name = CASE WHEN EXISTS (SELECT FROM amp_tables WHERE name = 'workers') THEN 'workers' ELSE 'jobs' END
ORDER BY array_position(current_schemas(false), schema), schema
LIMIT 1
"""
"""The schema of Amp's tables, the table by which it is recognised, and whether this role's search path has the schema.

The query returns no row where the database is not Amp's own; other applications have a table `_sqlx_migrations`, too.
Every role may read the catalogue, so the result does not depend on the role's privileges.
"""


@dataclass(frozen=True, slots=True)
class AmpDatabase:
    """Where the tables of Amp are."""

    schema: str
    table: str
    """`workers`, or `jobs` where Amp has not created `workers` yet."""

    is_on_search_path: bool

    @property
    def has_workers(self) -> bool:
        """Whether Amp has created its `workers` table."""
        return self.table == "workers"

    @property
    def has_visible_workers(self) -> bool:
        """Whether Amp's `workers` table is on the search path of this role."""
        return self.has_workers and self.is_on_search_path

    def __str__(self) -> str:
        return f"schema {self.schema} has the tables _sqlx_migrations and {self.table}"


def amp_database(connection: Connection) -> AmpDatabase | None:
    """Return where the tables of Amp are, or None where the database is not Amp's own."""
    row = connection.exec_driver_sql(AMP_DATABASE).one_or_none()
    return None if row is None else AmpDatabase(*row)
