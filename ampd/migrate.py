"""`ampd migrate`."""

import click

from amp_workers.ampd.command import command
from amp_workers.ampd.options import DurationType, metadata_db_option
from amp_workers.metadata_db import MetadataDbError, MetadataDbUrl


def _print_grants(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    from amp_workers.metadata_db.grants import grants

    if asked:
        click.echo(grants(), nl=False)
        context.exit()


@command()
@metadata_db_option
@click.option(
    "--print-grants",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_grants,
    help="Print SQL for psql that creates three roles with the least privileges (owner, worker, reader), and exit. It "
    "needs no metadata DB.",
)
@click.option(
    "--timeout",
    type=DurationType(),
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for a metadata DB that is unavailable.",
)
def migrate(metadata_db_url: MetadataDbUrl, timeout: float) -> None:
    """Create the workers table in the metadata DB, or bring it up to date.

    Safe to run again, and from several machines at once. Amp's own database is not changed. The command retries while
    the metadata DB is unavailable; where it refuses, as for a wrong password, the command fails at once.

    \b
    Examples:
      AMP_METADATA_DB_URL=postgresql://amp:secret@db.example.org/amp ampd migrate
      ampd migrate --print-grants | psql postgresql://postgres@db.example.org/amp
    """
    from amp_workers.metadata_db.migrate import upgrade

    servers = [str(metadata_db_url)]

    def waiting(error: MetadataDbError) -> None:
        click.echo(f"{metadata_db_url}: waiting for at most {timeout:g} s: {error}", err=True)

    try:
        outcome = upgrade(metadata_db_url, timeout, servers.append, waiting)
    except MetadataDbError as error:
        raise click.ClickException(f"{servers[-1]}: {error}") from error
    click.echo(f"{servers[-1]}: {outcome.value}")
