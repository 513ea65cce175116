"""`ampctl worker forget`."""

import sys
from typing import Any

import click

from amp_workers.ctl.client import AdminApi
from amp_workers.ctl.errors import ApiError
from amp_workers.ctl.fields import age_of
from amp_workers.ctl.node_ids import NodeIdType, unknown_worker
from amp_workers.ctl.options import DurationType, admin_api, states_option
from amp_workers.ctl.render import is_coloured, shown, terminal_columns
from amp_workers.ctl.table import table

_SAME_FOR_ALL = {
    "UNAUTHORIZED",
    "AUTHENTICATION_REQUIRED",
    "METADATA_DB_READ_ONLY",
    "METADATA_DB_UNAVAILABLE",
    "METHOD_NOT_ALLOWED",  # of an API without this method
}
"""Error codes that apply to every worker alike."""


@click.command("forget")
@click.argument("node_ids", type=NodeIdType(), nargs=-1, metavar="[NODE_ID]...")
@states_option("failed", "lost", "stopped", "forgotten", text="All workers in these states, instead of named ones")
@click.option(
    "--older-than",
    type=DurationType(),
    metavar="DURATION",
    help="With --state: only workers whose last heartbeat is older, such as 30d.",
)
@click.option("--dry-run", is_flag=True, help="Only list which workers would be removed.")
@click.option("--yes", "-y", is_flag=True, help="Remove them without confirmation.")
@click.pass_context
def forget_workers(
    context: click.Context,
    node_ids: tuple[str, ...],
    states: tuple[str, ...],
    older_than: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove workers that are gone for good.

    They are listed first, and removed from the metadata DB after a confirmation. The API refuses a worker that is
    active, stuck or stale, or that a job still refers to; each refusal is printed. A removed worker may register again.
    The API needs authentication, and a database role that may delete.

    \b
    Examples:
      ampctl worker forget worker-01
      ampctl worker forget --state forgotten --older-than 30d --dry-run
      ampctl worker forget --state forgotten,stopped --older-than 7d --yes

    \b
    Exit codes:
      0  done, or nothing to do, or not confirmed
      1  the API cannot be reached, or refused at least one worker
      2  wrong usage
    """
    if bool(node_ids) == bool(states):
        raise click.UsageError("give either node ids or --state.", context)
    if older_than is not None and not states:
        raise click.UsageError("--older-than needs --state.", context)
    if not (yes or dry_run or (sys.stdin and sys.stdin.isatty())):
        raise click.UsageError("no terminal for the confirmation: give --yes or --dry-run.", context)
    api = admin_api(context)
    workers, unknown = _named(context, api, node_ids) if node_ids else (_chosen(api, states, older_than), 0)
    if not workers:
        click.echo("No workers to remove")
        context.exit(1 if unknown else 0)
    click.echo(table(workers, width=terminal_columns(), colour=is_coloured()))
    if dry_run:
        click.echo(f"{len(workers)} would be removed.")
        context.exit(1 if unknown else 0)
    if not yes and not click.confirm(f"Remove {len(workers)} from the metadata DB?", err=True):
        context.exit(1 if unknown else 0)
    refused = _remove(api, [worker["node_id"] for worker in workers])
    context.exit(1 if unknown or refused else 0)


def _named(context: click.Context, api: AdminApi, node_ids: tuple[str, ...]) -> tuple[list[dict[str, Any]], int]:
    """Return the workers, and the number of node ids that do not exist."""
    workers, unknown = [], 0
    for node_id in dict.fromkeys(node_ids):
        try:
            workers.append(api.worker(node_id, need_state=True))
        except ApiError as error:
            if error.code != "WORKER_NOT_FOUND":
                raise
            unknown_worker(context, node_id, error).show()
            unknown += 1
    return workers, unknown


def _chosen(api: AdminApi, states: tuple[str, ...], older_than: float | None) -> list[dict[str, Any]]:
    workers = api.workers(states)["workers"]
    return [each for each in workers if older_than is None or (age_of(each) or 0.0) > older_than]


def _remove(api: AdminApi, node_ids: list[str]) -> int:
    """Remove the workers, and return the number of refusals."""
    refused = 0
    for number, node_id in enumerate(node_ids):
        try:
            api.forget(node_id)
        except ApiError as error:
            if error.code == "WORKER_NOT_FOUND":
                click.echo(f"{shown(node_id)}: already removed")
            elif error.code is None or error.code in _SAME_FOR_ALL:
                raise ApiError(f"{error} ({number - refused} of {len(node_ids)} removed)") from error
            else:
                error.show()
                refused += 1
        else:
            click.echo(f"{shown(node_id)}: removed")
    return refused
