"""`ampd admin`."""

from functools import partial

import click

from ampd.options import listen_option, metadata_db_option, threshold_options, thresholds, web_config_option
from metadata_db import MetadataDbUrl
from web import AddressInUse, ListenAddress

DEFAULT_LISTEN_ADDRESS = "127.0.0.1:1610"

_THREADS = 16


@click.command()
@metadata_db_option
@listen_option("--web.listen-address", DEFAULT_LISTEN_ADDRESS)
@web_config_option
@threshold_options
def admin(
    metadata_db_url: MetadataDbUrl,
    listen_address: ListenAddress,
    stale_after: float,
    lost_after: float,
    forget_after: float,
) -> None:
    """Serve the Admin API, which ampctl talks to.

    It only reads, and starts without the metadata DB: its answers say so until that is back.

    \b
    Example:
      AMP_METADATA_DB_URL=postgresql://amp:secret@db.example.org/amp ampd admin
      curl http://localhost:1610/workers
    """
    from admin import create_app
    from web import serve

    create = partial(create_app, metadata_db_url, thresholds(stale_after, lost_after, forget_after))
    try:
        serve(create, listen_address, name="ampd admin", threads=_THREADS)
    except AddressInUse as error:
        raise click.ClickException(f"{error}. Choose another with --web.listen-address.") from error
