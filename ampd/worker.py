"""`ampd worker`."""

import os
import signal
import sys
import threading
from typing import Any

import click

from ampd.options import metadata_db_option
from metadata_db import InvalidNodeId, MetadataDbUrl, check_node_id

FENCED_OUT_EXIT_CODE = 3


class _NodeIdType(click.ParamType[str]):
    name = "node id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_node_id(value)
        except InvalidNodeId as error:
            self.fail(f"{error}.", param, ctx)


@click.command()
@metadata_db_option
@click.option(
    "--node-id",
    type=_NodeIdType(),
    envvar="AMP_NODE_ID",
    show_envvar=True,
    required=True,
    metavar="ID",
    help="The worker's unique name: an ASCII letter, then ASCII letters, digits, '_', '-' and '.'; 255 at most.",
)
def worker(metadata_db_url: MetadataDbUrl, node_id: str) -> None:
    """Register a worker and write its heartbeat every second.

    A metadata DB that is away is waited for. SIGTERM and Ctrl-C record that the worker stopped on purpose.

    \b
    Exit codes:
      0  stopped, and the metadata DB knows
      1  another process holds the node id, or the stop could not be recorded
      2  wrong usage, such as a node id that is not valid
      3  another process took the node id over while this one was cut off or frozen

    \b
    Example:
      AMP_METADATA_DB_URL=postgresql://amp:secret@db.example.org/amp ampd worker --node-id worker-01
    """
    from worker import FencedOut, Heartbeat, NodeIdTaken, build_info

    stop = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())
    try:
        recorded = Heartbeat(metadata_db_url, node_id, build_info(os.environ)).run(stop)
    except NodeIdTaken as error:
        raise click.ClickException(f"{error}. Stop that one first, or choose another node id.") from error
    except FencedOut as error:
        click.echo(f"Error: {error}; this one stops.", err=True)
        sys.exit(FENCED_OUT_EXIT_CODE)
    sys.exit(0 if recorded else 1)
