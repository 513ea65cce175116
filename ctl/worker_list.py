"""`ampctl worker list`."""

import json
from typing import Any

import click

from amp_workers.ctl.connection import TIMEOUT_SECONDS
from amp_workers.ctl.fields import STATES, state_of
from amp_workers.ctl.options import DurationType, admin_api, output_options, states_option
from amp_workers.ctl.render import is_coloured, worker_line
from amp_workers.ctl.sort_keys import ORDERS

WATCHED_SECONDS = 5.0
"""After so long without an answer the screen tells that what it shows is old."""


@click.command("list")
@states_option(*STATES, text="Only workers in these states")
@click.option("--version", metavar="VERSION", help="Only workers of this version.")
@click.option(
    "--sort",
    type=click.Choice(list(ORDERS)),
    default="node-id",
    show_default=True,
    help="What comes first: the oldest heartbeat (age), the shortest uptime, the lowest version, the first created.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Print N workers at most, and say if there are more."
)
@output_options("text", "wide", "json", "csv")
@click.option("--watch", "-w", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option("--interval", type=DurationType(0.1), metavar="DURATION", help="How often with --watch. [default: 2s]")
@click.pass_context
def list_workers(
    context: click.Context,
    states: tuple[str, ...],
    version: str | None,
    sort: str,
    limit: int | None,
    output: str,
    watch: bool,
    interval: float | None,
) -> None:
    """List all registered workers with their last heartbeat.

    Alias: ls

    The order is that of the node ids, or what --sort says, and that of the node ids within it. --limit takes from the
    beginning of it. Age and uptime are the database's, and owe nothing to this machine's clock.

    --watch shows the text or the table, and keeps the last answer, with its age, while the API is away. Where the
    output is no terminal, each round is added to it.

    \b
    Examples:
      ampctl worker list
      ampctl worker list --json | jq -r '.workers[] | "\\(.node_id): \\(.heartbeat_at)"'
      ampctl worker list --wide --state stale,lost --sort age
      ampctl worker list --wide --watch --interval 5s
      ampctl worker list --version v0.0.22 --limit 10 --output csv
    """
    if interval is not None and not watch:
        raise click.UsageError("--interval is how often --watch asks: give that as well.", context)
    if watch and output not in {"text", "wide"}:
        raise click.UsageError("--watch is for people: it goes with --output text or wide.", context)
    api = admin_api(context, WATCHED_SECONDS if watch else TIMEOUT_SECONDS)

    def look() -> dict[str, Any]:
        # The first ones in another order are known only when all are.
        answer = api.workers(states, version, limit if sort == "node-id" else None)
        if sort != "node-id":
            answer["workers"].sort(key=ORDERS[sort])
        return answer

    if watch:
        from amp_workers.ctl.watch import watch as show_again_and_again

        def look_again() -> tuple[str, str]:
            answer = look()
            first = answer["workers"][:limit]
            more = ", and more" if _has_more(answer, limit) else ""
            return f"{api.url}: {_counted(first)}{more}", _rendered(first, output)

        show_again_and_again(look_again, interval or 2.0)
    answer = look()
    workers = answer["workers"]
    if output == "json":
        click.echo(json.dumps(answer | {"workers": workers[:limit]}, indent=2))
    else:
        click.echo(_rendered(workers[:limit], output))
    if _has_more(answer, limit):
        click.echo(f"There are more workers: --limit is {limit}.", err=True)


def _rendered(workers: list[dict[str, Any]], output: str) -> str:
    if output == "csv":
        from amp_workers.ctl.table import csv

        return csv(workers)
    if not workers:
        return "No workers found"
    if output == "wide":
        from amp_workers.ctl.table import table

        return table(workers, colour=is_coloured())
    return "\n".join(worker_line(worker) for worker in workers)


def _has_more(answer: dict[str, Any], limit: int | None) -> bool:
    return "next" in answer or len(answer["workers"]) > len(answer["workers"][:limit])


def _counted(workers: list[dict[str, Any]]) -> str:
    states = [state_of(worker) for worker in workers]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    return f"{len(workers)} workers" + (f": {counts}" if counts else "")
