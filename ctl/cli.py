"""The `ampctl` command line."""

import io
import os
import sys

import click

from amp_workers.ctl.completion import VARIABLE, print_completion
from amp_workers.ctl.version import show_versions
from amp_workers.ctl.worker_check import check_workers
from amp_workers.ctl.worker_forget import forget_workers
from amp_workers.ctl.worker_inspect import inspect_worker
from amp_workers.ctl.worker_list import list_workers

_ALIASES = {"ls": "list", "get": "inspect"}


class _WorkerGroup(click.Group):
    """`ls` and `get` are the short names of `list` and `inspect`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
    help="Trust the certificates of these authorities (PEM) and no others. Without it, those that the system trusts. "
    "There is no way to trust any certificate.",
)
@click.option(
    "--client-cert",
    envvar="AMP_CLIENT_CERT",
    show_envvar=True,
    type=click.Path(),
    metavar="FILE",
    help="A certificate of your own (PEM), for an API that asks for one.",
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
    help="Send the token over plain HTTP to another machine, where anybody on the way can read it.",
)
@click.version_option(package_name="amp-worker-management", prog_name="ampctl")
def ampctl(**_: object) -> None:
    """See an Amp fleet's workers, through the Admin API.

    \b
    Examples:
      ampctl worker list
      ampctl worker inspect worker-01
      ampctl --admin-url http://amp.example.org:1610 worker list --json | jq
      AMP_AUTH_TOKEN=$(cat token) ampctl --admin-url https://amp.example.org worker list

    Durations are written as 5s, 1m30s, 2h or 30d. Colours are for terminals, and for none where NO_COLOR is set.

    \b
    Exit codes:
      0  done
      1  the API cannot be reached, or answered with an error
      2  wrong usage
    """


@ampctl.group(cls=_WorkerGroup)
def worker() -> None:
    """See the workers of the fleet, check them, and remove those that are gone.

    \b
    Examples:
      ampctl worker list --wide --watch
      ampctl worker check --max-age 30s
      ampctl worker forget --state forgotten --older-than 30d
    """


for _command in (list_workers, inspect_worker, check_workers, forget_workers):
    worker.add_command(_command)
for _command in (show_versions, print_completion):
    ampctl.add_command(_command)


def main() -> None:
    """Run the command line."""
    if VARIABLE in os.environ:
        import amp_workers.ctl.shells  # noqa: F401 - registers itself
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed before the start
            stream.reconfigure(errors="backslashreplace")  # a version may be in letters that this terminal has not
    try:
        try:
            ampctl()
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        # A full disk, say. What is still in the buffer must not be tried again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read us has enough: `| head -1`
            sys.exit(1)
        sys.exit(f"Error: cannot write the output: {error.strerror}")
