"""`ampctl worker jobs`."""

import json
from typing import Any

import click

from amp_workers.ctl.errors import ApiError
from amp_workers.ctl.node_ids import NodeIdType, unknown_worker
from amp_workers.ctl.options import admin_api, output_options
from amp_workers.ctl.render import shown

_UNKNOWN = "jobs are unknown: the metadata DB is not Amp's own, or the role of `ampd admin` may not read its jobs"


@click.command("jobs")
@click.argument("node_id", type=NodeIdType())
@output_options("text", "json")
@click.pass_context
def show_jobs(context: click.Context, node_id: str, output: str) -> None:
    """Show the unfinished jobs of one worker.

    One line per job: its id, its status, when that changed last, and its dataset. Only Amp's own metadata DB has jobs.
    Exits with 1 where jobs are unknown.

    \b
    Examples:
      ampctl worker jobs worker-01
      ampctl worker jobs worker-01 --json | jq -r '.jobs[].dataset'
    """
    try:
        answer = admin_api(context).jobs(node_id)
    except ApiError as error:
        if error.code != "WORKER_NOT_FOUND":
            raise
        raise unknown_worker(context, node_id, error) from error
    jobs = answer["jobs"]
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
    elif jobs:
        click.echo("\n".join(map(_line, jobs)))
    elif jobs is not None:
        click.echo("No unfinished jobs", err=True)
    if jobs is None:
        raise click.ClickException(_UNKNOWN)


def _line(job: dict[str, Any]) -> str:
    values = (job["id"], job["status"], job["updated_at"], job["dataset"] or "unknown")
    return "  ".join(shown(value) for value in values)
