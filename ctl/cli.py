"""The `ampctl` command line."""

import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from ctl.client import AdminApi, ApiError, InvalidAdminUrl
from ctl.text import worker_details, worker_line

_ALIASES = {"ls": "list", "get": "inspect"}

# The same rule as the API's own, kept here as well so that a typing mistake is told without a round trip.
_NODE_ID = re.compile(r"[a-zA-Z][a-zA-Z0-9_\-.]{0,254}")


class _AdminUrlType(click.ParamType[AdminApi]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> AdminApi:
        try:
            return AdminApi(value)
        except InvalidAdminUrl as error:
            self.fail(f"{error}.", param, ctx)


class _NodeIdType(click.ParamType[str]):
    name = "node_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _NODE_ID.fullmatch(value):
            self.fail(
                f"{value!r} is no node id: it must begin with an ASCII letter and go on with ASCII letters, digits, "
                "'_', '-' and '.', 255 characters at most.",
                param,
                ctx,
            )
        return str(value)


class _WorkerGroup(click.Group):
    """`ls` and `get` are the short names of `list` and `inspect`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))


_as_json = click.option("--json", "as_json", is_flag=True, help="Print the API's answer as JSON, for jq and scripts.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--admin-url",
    "api",
    type=_AdminUrlType(),
    default="http://localhost:1610",
    envvar="AMP_ADMIN_URL",
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="The Admin API.",
)
@click.version_option(package_name="amp-worker-management", prog_name="ampctl")
@click.pass_context
def ampctl(context: click.Context, api: AdminApi) -> None:
    """See an Amp fleet's workers, through the Admin API.

    \b
    Examples:
      ampctl worker list
      ampctl worker inspect worker-01
      ampctl --admin-url http://amp.example.org:1610 worker list --json | jq

    \b
    Exit codes:
      0  done
      1  the API cannot be reached, or answered with an error
      2  wrong usage
    """
    context.obj = api


@ampctl.group(cls=_WorkerGroup)
def worker() -> None:
    """See the workers of the fleet."""


@worker.command("list")
@_as_json
@click.pass_obj
def list_workers(api: AdminApi, as_json: bool) -> None:
    """List all registered workers with their last heartbeat.

    Alias: ls

    \b
    Examples:
      ampctl worker list
      ampctl worker list --json | jq -r '.workers[] | "\\(.node_id): \\(.heartbeat_at)"'
    """
    answer = _ask(api.workers)
    if as_json:
        _print_json(answer)
    elif not answer["workers"]:
        click.echo("No workers found")
    else:
        click.echo("\n".join(worker_line(each) for each in answer["workers"]))


@worker.command("inspect")
@click.argument("node_id", type=_NodeIdType())
@_as_json
@click.pass_obj
def inspect_worker(api: AdminApi, node_id: str, as_json: bool) -> None:
    """Show one worker: when it was created, registered and last heard of, and what it was built from.

    Alias: get

    \b
    Examples:
      ampctl worker inspect worker-01
      ampctl worker inspect worker-01 --json | jq -r '.info.version'
    """
    answer = _ask(lambda: api.worker(node_id))
    if as_json:
        _print_json(answer)
    else:
        click.echo(worker_details(answer))


def _ask(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return call()
    except ApiError as error:
        raise click.ClickException(str(error)) from error


def _print_json(answer: dict[str, Any]) -> None:
    click.echo(json.dumps(answer, indent=2))


def main() -> None:
    """Run the command line."""
    try:
        try:
            ampctl()
        finally:
            if sys.stdout:  # None where it was closed before the start
                sys.stdout.flush()
    except OSError as error:
        # A full disk, say. What is still in the buffer must not be tried again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read us has enough: `| head -1`
            sys.exit(1)
        sys.exit(f"Error: cannot write the output: {error.strerror}")
