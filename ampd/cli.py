"""The entry point: the commands, and the one place where a failure becomes a line and an exit code."""

import sys
from importlib.metadata import version

import click

from ampd.admin import admin
from ampd.exporter import exporter
from ampd.logs import configure_logs
from ampd.migrate import migrate
from ampd.process_title import hide_secrets_in_process_title
from ampd.solo import solo
from ampd.worker import worker

DISTRIBUTION = "amp-worker-management"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version(DISTRIBUTION), prog_name="ampd")
def ampd() -> None:
    """Worker management for an Amp fleet.

    Workers heartbeat into a PostgreSQL metadata DB; the Admin API and the Prometheus exporter show how they are.

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

    AMP_LOG sets how much is logged: error, warn, info (the default) or debug.
    """
    hide_secrets_in_process_title(sys.argv)
    configure_logs()


for command in (solo, migrate, worker, admin, exporter):
    ampd.add_command(command)


def main() -> None:
    """Run the command line."""
    ampd()
