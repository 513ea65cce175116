"""The entry point of `ampd` and its subcommands."""

import gc
import os
import signal
import sys
from importlib import import_module
from types import FrameType

import click

from amp_workers.ampd.logs import never_block_standard_error
from amp_workers.ampd.process_title import hide_secrets_in_process_title
from amp_workers.ampd.signals import stop_signals
from amp_workers.version_option import version_option

COMMANDS = ("solo", "migrate", "worker", "admin", "exporter")
"""Each is a module of this package that defines a command of the same name."""


_SERVERS = ("admin", "exporter")
"""Their libraries take longest to import. Until they serve, a signal ends them at once: there is nothing to drain."""


class _Commands(click.Group):
    """Imports a command when it is called: the HTTP server would cost each worker 12 MB of memory."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - Click's signature
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in _SERVERS:
            for number in stop_signals():
                signal.signal(number, _exit)
        gc.disable()  # collections are an eighth of the time that the imports take
        command: click.Command = getattr(import_module(f"amp_workers.ampd.{cmd_name}"), cmd_name)
        if cmd_name not in _SERVERS:  # a server imports more, and enables them when it runs
            gc.enable()
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@version_option("ampd")
def ampd() -> None:
    """Worker management for an Amp fleet.

    Workers send heartbeats to a PostgreSQL metadata DB; the Admin API and the Prometheus exporter show their states.

    \b
    Try it, with nothing else installed:
      ampd solo --workers 3

    \b
    Or on a PostgreSQL of your own:
      export AMP_METADATA_DB_URL=postgresql://user:password@host:5432/amp
      ampd migrate
      ampd worker --node-id worker-01
      ampd admin
      ampd exporter

    AMP_LOG, or --log.level of a command, sets the log level: error, warn, info (the default), debug or trace.
    """
    hide_secrets_in_process_title(sys.argv)


def _exit(_signal: int, _frame: FrameType | None) -> None:
    os._exit(0)


def main() -> None:
    """Run the command line."""
    if sys.platform != "linux":
        sys.exit(f"Error: ampd needs Linux, for prctl(2) and TCP_USER_TIMEOUT; this is {sys.platform}. ampctl runs.")
    never_block_standard_error()
    ampd()
