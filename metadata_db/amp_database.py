"""Amp's own database: recognised by its tables, in any schema, and left as Amp made it."""

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

There is no row where the database is not Amp's own: other applications have a table `_sqlx_migrations`, too. Every role
may read the catalogue, so the answer does not depend on the role's rights.
"""


@dataclass(frozen=True, slots=True)
class AmpDatabase:
    """Where the tables of Amp are."""

    schema: str
    table: str
    """`workers`, or `jobs` where Amp has not made `workers` yet."""

    is_on_search_path: bool

    @property
    def has_workers(self) -> bool:
        """Whether Amp has made its `workers` table."""
        return self.table == "workers"

    @property
    def has_visible_workers(self) -> bool:
        """Whether this role finds Amp's `workers` table."""
        return self.has_workers and self.is_on_search_path

    def __str__(self) -> str:
        return f"schema {self.schema} has the tables _sqlx_migrations and {self.table}"


def amp_database(connection: Connection) -> AmpDatabase | None:
    """Return where the tables of Amp are, or None where the database is not Amp's own."""
    row = connection.exec_driver_sql(AMP_DATABASE).one_or_none()
    return None if row is None else AmpDatabase(*row)
