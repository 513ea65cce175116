"""`ampctl worker list`."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from amp_workers.ctl.columns import COLUMNS, CSV, WIDE
from amp_workers.ctl.fields import STATES
from amp_workers.ctl.node_ids import GlobType
from amp_workers.ctl.options import DurationType, ListType, admin_api, output_options, states_option
from amp_workers.ctl.render import is_coloured, shown, terminal_columns, worker_line, wrapped
from amp_workers.ctl.sort_keys import ORDERS

Worker = dict[str, Any]

_API_ORDERS = {"node-id": "node_id", "state": "state", "last-seen": "heartbeat"}
"""The orders that the API has, and its names of them."""

_FORMATS = ("text", "wide", "json", "jsonl", "csv", "name")


class _Selection(NamedTuple):
    """Which workers are listed, and in which order."""

    node_ids: tuple[str, ...]
    states: tuple[str, ...]
    version: str | None
    problems: bool
    sort: str
    reverse: bool
    limit: int | None

    def described(self) -> str:
        """Return the filter in words, for the message `No workers found`."""
        filters = [f"node id {', '.join(self.node_ids)}"] if self.node_ids else []
        filters += [f"state {', '.join(self.states)}"] if self.states else []
        filters += [f"version {self.version}"] if self.version is not None else []
        filters += ["a problem"] if self.problems else []
        return f" with {' and '.join(filters)}" if filters else ""


class _View(NamedTuple):
    """How workers are printed."""

    output: str
    columns: tuple[str, ...]
    headings: bool
    truncated: bool

    def rendered(self, workers: Sequence[Worker]) -> str:
        if self.output == "text":
            return "\n".join(map(worker_line, workers))
        if self.output == "name":
            return "\n".join(shown(worker["node_id"]) for worker in workers)
        if self.output == "jsonl":
            return "\n".join(map(json.dumps, workers))
        from amp_workers.ctl.table import csv, table

        if self.output == "csv":
            return csv(workers, self.columns or CSV, headings=self.headings)
        width = terminal_columns() if self.truncated else None
        columns = self.columns or WIDE
        return table(workers, columns, width=width, colour=is_coloured(), headings=self.headings)


@click.command("list")
@click.argument("node_ids", type=GlobType(), nargs=-1, metavar="[NODE_ID|GLOB]...")
@states_option(*STATES, text="Only workers in these states")
@click.option("--version", metavar="GLOB", help="Only workers of this version, such as 'v0.3.*'.")
@click.option("--problems", is_flag=True, help="Only unhealthy workers: failed, lost, stale or stuck.")
@click.option(
    "--sort",
    type=click.Choice(list(ORDERS)),
    help="What comes first: the worst state, the heartbeat furthest from now (last-seen), the lowest version, the "
    "shortest uptime, the first created. [default: node-id; with --watch: state]",
)
@click.option("--reverse", is_flag=True, help="The opposite order.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Print N workers at most.")
@output_options(*_FORMATS, wide="a table")
@click.option(
    "--columns",
    type=ListType("columns", *COLUMNS),
    metavar="COLUMN[,COLUMN…]",
    help="The columns of the table or of CSV.",
)
@click.option("--no-headers", is_flag=True, help="No line of headings.")
@click.option("--no-trunc", is_flag=True, help="Do not shorten texts to the width of the terminal.")
@click.option("--watch", "-w", is_flag=True, help="Refresh until Ctrl-C or q; with -o jsonl, a line per change.")
@click.option("--interval", type=DurationType(0.1), metavar="DURATION", help="How often with --watch. [default: 2s]")
@click.pass_context
def list_workers(
    context: click.Context,
    node_ids: tuple[str, ...],
    states: tuple[str, ...],
    version: str | None,
    problems: bool,
    sort: str | None,
    reverse: bool,
    limit: int | None,
    output: str,
    columns: tuple[str, ...] | None,
    no_headers: bool,
    no_trunc: bool,
    watch: bool,
    interval: float | None,
) -> None:
    """List all registered workers with their last heartbeat.

    Alias: ls

    Workers are selected by node ids or globs ('*' is any text, '?' one character), states and version. On a terminal
    the table fits its width, and a summary follows; through a pipe nothing is cut. LAST SEEN and UPTIME are by the
    database's clock; a negative LAST SEEN is a heartbeat from the future.

    --watch sorts the worst first. Arrow keys, PgUp and PgDn scroll. While the API cannot be reached, it keeps the last
    answer with its age. With -o jsonl it prints a line for each change of a worker, beginning with all workers, and
    continues after an outage. Where the output is no terminal, it appends each round.

    \b
    Examples:
      ampctl worker list
      ampctl worker list --json | jq '.workers | length'
      ampctl worker list --wide --problems
      ampctl worker list 'extract-eu-*' --version 'v0.3.*' -o name
      ampctl worker list --wide --watch --interval 5s
      ampctl worker list --watch -o jsonl | jq -c '{node_id, state_after}'
      ampctl worker list --columns id,state,version --no-headers
    """
    if interval is not None and not watch:
        raise click.UsageError("--interval needs --watch.", context)
    if watch and output not in {"text", "wide", "jsonl"}:
        raise click.UsageError("--watch needs --output text, wide or jsonl.", context)
    if columns and output == "text":
        output = "wide"
    if columns and output not in {"wide", "csv"}:
        raise click.UsageError("--columns needs --output wide or csv.", context)
    order = sort or ("state" if watch else "node-id")
    selection = _Selection(node_ids, states, version, problems, order, reverse, limit)
    view = _View(output, columns or (), headings=not no_headers, truncated=not no_trunc)
    if watch:
        _watch(context, selection, view, interval or 2.0)
        return
    answer = _look(context, selection)
    workers = answer["workers"][:limit]
    if output == "json":
        click.echo(json.dumps(answer | {"workers": workers}, indent=2))
    elif workers or (output == "csv" and view.headings):
        click.echo(view.rendered(workers))
        if output == "wide" and terminal_columns() is not None:
            from amp_workers.ctl.table import summary

            text = summary(workers) + (", and more" if _has_more(answer, limit) else "")
            click.echo("\n".join(wrapped(text, terminal_columns())))
    if not workers and output != "json":
        # The documented plain listing prints it on stdout.
        click.echo(f"No workers found{selection.described()}", err=output != "text" or bool(selection.described()))
    if _has_more(answer, limit):
        click.echo(f"There are more workers: --limit is {limit}.", err=True)


def _look(context: click.Context, selection: _Selection) -> dict[str, Any]:
    order = None if selection.reverse else _API_ORDERS.get(selection.sort)
    if selection.problems and order != "state":  # the API has them in its order by state
        order = None
    answer = admin_api(context).workers(
        selection.states,
        selection.version,
        # In an order that the API does not have, the first workers are known only after all are read.
        selection.limit if order is not None else None,
        node_ids=selection.node_ids,
        order=order or "node_id",
        problems=selection.problems,
    )
    workers = answer["workers"]
    workers.sort(key=lambda each: each["node_id"], reverse=selection.reverse)
    workers.sort(key=ORDERS[selection.sort], reverse=selection.reverse)
    return answer


def _watch(context: click.Context, selection: _Selection, view: _View, interval: float) -> None:
    if view.output == "jsonl":
        from amp_workers.ctl.changes import print_changes

        # Not filtered by state: a worker that leaves a state is a change.
        unfiltered = selection._replace(states=(), problems=False, limit=None)
        print_changes(lambda: _look(context, unfiltered)["workers"], selection.states, selection.problems, interval)
        return
    from amp_workers.ctl.table import summary
    from amp_workers.ctl.watch import Frame
    from amp_workers.ctl.watch import watch as show_repeatedly

    url = admin_api(context).url

    def look() -> Frame:
        answer = _look(context, selection)
        workers = answer["workers"][: selection.limit]
        more = ", and more" if _has_more(answer, selection.limit) else ""

        def render() -> str:
            return view.rendered(workers) if workers else f"No workers found{selection.described()}"

        pinned = 1 if view.output == "wide" and view.headings and workers else 0
        return Frame(f"{summary(workers)}{more}", url, render, pinned)

    show_repeatedly(look, interval)


def _has_more(answer: dict[str, Any], limit: int | None) -> bool:
    return "next" in answer or len(answer["workers"]) > len(answer["workers"][:limit])
