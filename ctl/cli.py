"""The `ampctl` command line."""

import io
import os
import sys
from typing import ClassVar

import click

from amp_workers.ctl.completion import VARIABLE
from amp_workers.ctl.help import WholeWords
from amp_workers.ctl.lazy_commands import LazyCommands
from amp_workers.ctl.options import complete_context
from amp_workers.version_option import version_option

_UNKNOWN = 3
"""The exit code UNKNOWN of a Nagios plugin."""

click.Context.formatter_class = WholeWords


class _AliasGroup(click.Group):
    """A group whose commands have aliases, which `--help` does not list."""

    aliases: ClassVar[dict[str, str]] = {}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))


class _WorkerGroup(_AliasGroup):
    aliases: ClassVar = {"ls": "list", "get": "inspect"}


class _RootGroup(_AliasGroup):
    aliases: ClassVar = {"workers": "worker"}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and worker.get_command(ctx, args[0]) is not None:
            ctx.fail(f"No such command '{args[0]}'. Did you mean: ampctl worker {args[0]}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_RootGroup,
    commands=LazyCommands(
        {
            "completion": "completion:print_completion",
            "context": "context_commands:contexts",
            "fleet": "fleet:show_fleet",
            "version": "version:show_versions",
        }
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--context",
    shell_complete=complete_context,
    envvar="AMPCTL_CONTEXT",
    show_envvar=True,
    metavar="NAME",
    help="A context of `ampctl context list`.",
)
@click.option(
    "--admin-url",
    "url",
    default="http://localhost:1610",
    envvar="AMP_ADMIN_URL",
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="The Admin API.",
)
@click.option(
    "--auth-token",
    envvar="AMP_AUTH_TOKEN",
    show_envvar=True,
    metavar="TOKEN",
    help="A bearer token, or user:password. Better kept in the environment: other users can read an option in ps.",
)
@click.option(
    "--ca-file",
    envvar="AMP_CA_FILE",
    show_envvar=True,
    type=click.Path(),
    metavar="FILE",
    help="Trust the certificates of these authorities (PEM) and no others. [default: those that the system trusts]",
)
@click.option(
    "--client-cert",
    envvar="AMP_CLIENT_CERT",
    show_envvar=True,
    type=click.Path(),
    metavar="FILE",
    help="A client certificate (PEM), for an API that requires one.",
)
@click.option(
    "--client-key",
    envvar="AMP_CLIENT_KEY",
    show_envvar=True,
    type=click.Path(),
    metavar="FILE",
    help="Its key (PEM), if it is in another file.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Send the token over plain HTTP to another machine, where others on the network can read it.",
)
@version_option("ampctl")
def ampctl(**_: object) -> None:
    """See an Amp fleet's workers, through the Admin API.

    \b
    Examples:
      ampctl worker list
      ampctl worker inspect worker-01
      ampctl --admin-url http://amp.example.org:1610 worker list --json | jq
      AMP_AUTH_TOKEN=$(cat token) ampctl --admin-url https://amp.example.org fleet

    Durations are written as 5s, 1m30s, 2h or 30d; a bare number is seconds. Colours are used on terminals only, and not
    where NO_COLOR is set.

    \b
    Exit codes:
      0  done
      1  the API cannot be reached, or answered with an error
      2  wrong usage
    """


@ampctl.group(
    cls=_WorkerGroup,
    commands=LazyCommands(
        {
            "check": "worker_check:check_workers",
            "describe": "worker_inspect:describe_worker",
            "forget": "worker_forget:forget_workers",
            "inspect": "worker_inspect:inspect_worker",
            "jobs": "worker_jobs:show_jobs",
            "list": "worker_list:list_workers",
        }
    ),
)
def worker() -> None:
    """List, inspect, check and remove workers.

    Alias: workers

    \b
    Examples:
      ampctl worker list --wide --watch
      ampctl worker check --max-age 30s
      ampctl worker forget --state forgotten --older-than 30d
    """


def main() -> None:
    """Run the command line."""
    if VARIABLE in os.environ:
        import amp_workers.ctl.shells  # noqa: F401 - registers itself
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed before the start
            stream.reconfigure(errors="backslashreplace")  # not every encoding has a version's letters
    try:
        try:
            sys.exit(_run())
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        # For example, the disk is full. Python must not write the rest of the buffer again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader has ended: `| head -1`
            sys.exit(1)
        sys.exit(f"Error: cannot write the output: {error.strerror}")


def _run() -> int:
    """Return the exit code. As a Nagios plugin, every error is UNKNOWN, on stdout; 2 would be CRITICAL."""
    try:
        return ampctl.main(standalone_mode=False) or 0
    except click.ClickException as error:
        if "--nagios" in sys.argv:
            click.echo(f"UNKNOWN: {error.format_message().replace('|', '/')}")  # performance data begins at `|`
            return _UNKNOWN
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Aborted!", err=True)
        return 1
