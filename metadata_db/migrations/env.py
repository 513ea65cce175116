"""Where Alembic finds the connection: `metadata_db.migrate` hands it over, with its transaction already open."""

from alembic import context

from amp_workers.metadata_db.migrate import VERSION_TABLE
from amp_workers.metadata_db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
