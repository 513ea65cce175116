"""Alembic's environment. `metadata_db.migrate` passes a connection with an open transaction."""

from alembic import context

from amp_workers.metadata_db.migrate import VERSION_TABLE
from amp_workers.metadata_db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
