"""`ampd migrate`."""

import click

from ampd.options import metadata_db_option
from metadata_db import MetadataDbError, MetadataDbUrl


@click.command()
@metadata_db_option
def migrate(metadata_db_url: MetadataDbUrl) -> None:
    """Create the workers table in the metadata DB, or bring it up to date.

    Safe to run again, and from several places at once. A database that is Amp's own is left as it is.

    \b
    Example:
      AMP_METADATA_DB_URL=postgresql://amp:secret@db.example.org/amp ampd migrate
    """
    from metadata_db.migrate import upgrade

    try:
        outcome = upgrade(metadata_db_url)
    except MetadataDbError as error:
        raise click.ClickException(f"{metadata_db_url}: {error}") from error
    click.echo(f"{metadata_db_url}: {outcome.value}")
