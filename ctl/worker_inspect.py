"""`ampctl worker inspect`, and `describe`, which is `inspect --wide`."""

import json
from typing import Any

import click

from amp_workers.ctl.errors import ApiError
from amp_workers.ctl.fields import state_of
from amp_workers.ctl.node_ids import NodeIdType, unknown_worker
from amp_workers.ctl.options import admin_api, output_options
from amp_workers.ctl.render import shown, worker_details


@click.command("inspect")
@click.argument("node_id", type=NodeIdType())
@output_options("text", "wide", "json", wide="with state, progress and jobs")
@click.pass_context
def inspect_worker(context: click.Context, node_id: str, output: str) -> None:
    """Show one worker: its timestamps and its build.

    Alias: get. `describe` is short for `inspect --wide`, which adds its state, progress and jobs.

    \b
    Examples:
      ampctl worker inspect worker-01
      ampctl worker inspect worker-01 --wide
      ampctl worker inspect worker-01 --json | jq -r '.info.version'
    """
    _inspect(context, node_id, output)


@click.command("describe")
@click.argument("node_id", type=NodeIdType())
@click.pass_context
def describe_worker(context: click.Context, node_id: str) -> None:
    """Show one worker with its state, progress and jobs.

    Short for: inspect --wide

    \b
    Example:
      ampctl worker describe worker-01
    """
    _inspect(context, node_id, "wide")


def _inspect(context: click.Context, node_id: str, output: str) -> None:
    try:
        answer = admin_api(context).worker(node_id)
    except ApiError as error:
        if error.code != "WORKER_NOT_FOUND":
            raise
        raise unknown_worker(context, node_id, error) from error
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(worker_details(answer, _more(answer) if output == "wide" else ""))
        if output == "text" and answer.get("stopped_at") is not None:
            click.echo(f"\nStopped: {shown(answer['stopped_at'])}")
            if answer.get("failure") is not None:
                click.echo(f"Failure: {shown(answer['failure'])}")


def _more(worker: dict[str, Any]) -> str:
    from amp_workers.ctl.columns import COLUMNS, age_text, uptime_text

    lines = [("State", state_of(worker)), ("Last Seen", age_text(worker)), ("Uptime", uptime_text(worker))]
    for label, column in (
        ("Stopped", "stopped"),
        ("Failure", "failure"),
        ("Exit Code", "exit-code"),
        ("Progress", "progress"),
        ("Progress At", "progress-at"),
        ("Unfinished Jobs", "jobs"),
    ):
        if COLUMNS[column].value(worker) is not None:
            lines.append((label, COLUMNS[column].text(worker)))
    return "".join(f"{label}: {shown(text)}\n" for label, text in lines)
