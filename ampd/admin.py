"""`ampd admin`."""

import os
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from amp_workers.ampd.command import command
from amp_workers.ampd.listen_address import ListenAddress
from amp_workers.ampd.options import (
    listen_option,
    metadata_db_option,
    policy,
    threshold_options,
    thresholds,
    web_config_option,
)
from amp_workers.build_info import version
from amp_workers.metadata_db import MetadataDbUrl

DEFAULT_LISTEN_ADDRESS = "127.0.0.1:1610"

TOKEN_ENVIRONMENT = "AMP_AUTH_TOKEN"  # noqa: S105 - the name of one

_THREADS = 4
"""As many as the API has connections to the metadata DB: more would contend for the interpreter."""


class _GrafanaUrlType(click.ParamType[str]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parts = urlsplit(value)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            self.fail(f"invalid URL {value!r} (example: https://grafana.example.org)", param, ctx)
        return str(value).rstrip("/")


@command()
@metadata_db_option
@listen_option("--web.listen-address", DEFAULT_LISTEN_ADDRESS)
@web_config_option
@click.option(
    "--auth-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File of bearer tokens, one per line; # starts a comment. Read again when it changes.  "
    f"[env var {TOKEN_ENVIRONMENT}: one token]",
)
@click.option(
    "--web.grafana-url",
    "grafana_url",
    type=_GrafanaUrlType(),
    metavar="URL",
    help="Where Grafana has the dashboards, for the links of the fleet page: https://grafana.example.org.",
)
@threshold_options
def admin(
    metadata_db_url: MetadataDbUrl,
    listen_addresses: tuple[ListenAddress, ...],
    web_config_file: Path | None,
    auth_token_file: Path | None,
    grafana_url: str | None,
    stale_after: float,
    lost_after: float,
    forget_after: float,
) -> None:
    """Serve the Admin API, which ampctl uses, and the fleet page, for browsers.

    It also starts while the metadata DB is unavailable. Until that is available, requests get status 503.

    \b
    Example:
      AMP_METADATA_DB_URL=postgresql://amp:secret@db.example.org/amp ampd admin
      curl http://localhost:1610/workers
      xdg-open http://localhost:1610/
    """
    from amp_workers.admin import create_app
    from amp_workers.ampd.server import run_server

    rules = policy(web_config_file, auth_token_file, os.environ.get(TOKEN_ENVIRONMENT))
    limits = thresholds(stale_after, lost_after, forget_after)
    create = partial(create_app, metadata_db_url, limits, version(os.environ), grafana_url=grafana_url)
    run_server(create, listen_addresses, rules, name="ampd admin", threads=_THREADS)
