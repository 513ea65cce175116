"""`ampctl version`."""

import click

from amp_workers.ctl.options import admin_api
from amp_workers.ctl.render import shown


@click.command("version")
@click.pass_context
def show_versions(context: click.Context) -> None:
    """Show the versions of ampctl and of the Admin API.

    That of ampctl is printed also where the API cannot be reached, which is an exit with 1.

    \b
    Example:
      ampctl version
    """
    from importlib.metadata import version

    click.echo(f"ampctl {version('amp-worker-management')}")
    api = admin_api(context)
    click.echo(f"Admin API {shown(api.version())} ({api.url})")
