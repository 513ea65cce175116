"""`ampctl worker inspect`."""

import json

import click

from amp_workers.ctl.errors import ApiError
from amp_workers.ctl.fields import state_of
from amp_workers.ctl.node_ids import NodeIdType, unknown_worker
from amp_workers.ctl.options import admin_api, output_options
from amp_workers.ctl.render import shown, worker_details


@click.command("inspect")
@click.argument("node_id", type=NodeIdType())
@output_options("text", "wide", "json")
@click.pass_context
def inspect_worker(context: click.Context, node_id: str, output: str) -> None:
    """Show one worker: when it was created, registered and last heard of, and what it was built from.

    Alias: get

    \b
    Examples:
      ampctl worker inspect worker-01
      ampctl worker inspect worker-01 --wide
      ampctl worker inspect worker-01 --json | jq -r '.info.version'
    """
    try:
        answer = admin_api(context).worker(node_id)
    except ApiError as error:
        if error.code != "WORKER_NOT_FOUND":
            raise
        raise unknown_worker(context, node_id, error) from error
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
    elif output == "wide":
        from amp_workers.ctl.table import age_text, uptime_text

        more = f"State: {shown(state_of(answer))}\nAge: {age_text(answer)}\nUptime: {uptime_text(answer)}\n"
        click.echo(worker_details(answer, more))
    else:
        click.echo(worker_details(answer))
