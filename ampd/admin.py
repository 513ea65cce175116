"""`ampd admin`."""

import os
from functools import partial
from pathlib import Path

import click

from amp_workers.ampd.options import (
    listen_option,
    metadata_db_option,
    security,
    threshold_options,
    thresholds,
    web_config_option,
)
from amp_workers.ampd.systemd import ServiceManager
from amp_workers.metadata_db import MetadataDbUrl
from amp_workers.web import AddressInUse, ListenAddress

DEFAULT_LISTEN_ADDRESS = "127.0.0.1:1610"

TOKEN_ENVIRONMENT = "AMP_AUTH_TOKEN"  # noqa: S105 - the name of one

_THREADS = 16


@click.command()
@metadata_db_option
@listen_option("--web.listen-address", DEFAULT_LISTEN_ADDRESS)
@web_config_option
@click.option(
    "--auth-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Tokens that clients must show one of, one a line; # begins a comment. Read again when it changes.  "
    f"[env var {TOKEN_ENVIRONMENT}: one token]",
)
@threshold_options
def admin(
    metadata_db_url: MetadataDbUrl,
    listen_address: ListenAddress,
    web_config_file: Path | None,
    auth_token_file: Path | None,
    stale_after: float,
    lost_after: float,
    forget_after: float,
) -> None:
    """Serve the Admin API, which ampctl talks to.

    It starts without the metadata DB: its answers say so until that is back.

    \b
    Example:
      AMP_METADATA_DB_URL=postgresql://amp:secret@db.example.org/amp ampd admin
      curl http://localhost:1610/workers
    """
    from amp_workers.admin import create_app
    from amp_workers.web import Answers, serve

    # Taken out of the environment, which Granian shows to every request.
    token = os.environ.pop(TOKEN_ENVIRONMENT, None)
    token = token if token is None else token.strip()
    safe = security(web_config_file, auth_token_file, token)
    create = partial(create_app, metadata_db_url, thresholds(stale_after, lost_after, forget_after))
    try:
        with ServiceManager(os.environ).watching(Answers(listen_address)):
            serve(create, listen_address, safe, name="ampd admin", threads=_THREADS)
    except AddressInUse as error:
        raise click.ClickException(f"{error}. Choose another with --web.listen-address.") from error
