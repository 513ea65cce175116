"""`ampctl version`."""

import json
import os

import click

from amp_workers.build_info import version
from amp_workers.ctl.errors import ApiError
from amp_workers.ctl.options import admin_api, text_or_json_option
from amp_workers.ctl.render import shown


@click.command("version")
@text_or_json_option
@click.pass_context
def show_versions(context: click.Context, output: str) -> None:
    """Show the versions of ampctl and of the Admin API.

    If the API cannot be reached, only the version of ampctl is printed, and the exit code is 1.

    \b
    Examples:
      ampctl version
      ampctl version -o json | jq -r .admin_api
    """
    own = version(os.environ)
    if output == "text":
        click.echo(f"ampctl {own}")
    api = admin_api(context)
    try:
        its = api.version()
    except ApiError:
        if output == "json":
            click.echo(json.dumps({"ampctl": own, "admin_api": None, "admin_url": api.url}, indent=2))
        raise
    if output == "json":
        click.echo(json.dumps({"ampctl": own, "admin_api": its, "admin_url": api.url}, indent=2))
    else:
        click.echo(f"Admin API {shown(its)} ({api.url})")
