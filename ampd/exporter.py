"""`ampd exporter`."""

import os
import re
from functools import partial
from pathlib import Path

import click

from amp_workers.ampd.command import command
from amp_workers.ampd.listen_address import ListenAddress
from amp_workers.ampd.options import (
    listen_option,
    metadata_db_option,
    policy,
    threshold_options,
    thresholds,
    web_config_option,
)
from amp_workers.build_info import version
from amp_workers.metadata_db import MetadataDbUrl

DEFAULT_LISTEN_ADDRESS = "127.0.0.1:9610"

_TELEMETRY_PATH = re.compile(r"(?!/-/)(/[\w.~-]+)+", re.ASCII)

_THREADS = 32
"""Scrapes at the same moment share one query of the metadata DB, and each holds a thread until the query has ended:
with fewer threads, further scrapes would wait for a second query, beyond their own timeout."""


@command()
@metadata_db_option
@listen_option("--web.listen-address", DEFAULT_LISTEN_ADDRESS)
@click.option(
    "--web.telemetry-path",
    "telemetry_path",
    default="/metrics",
    show_default=True,
    metavar="PATH",
    help="Path under which to expose metrics.",
)
@click.option(
    "--collector.workers",
    "collect_workers",
    type=click.Choice(["all", "unhealthy", "none"]),
    default="all",
    show_default=True,
    help="Which workers have series: all but the forgotten ones, only the unhealthy ones (failed, lost, stale, stuck), "
    "or none.",
)
@web_config_option
@threshold_options
def exporter(
    metadata_db_url: MetadataDbUrl,
    listen_addresses: tuple[ListenAddress, ...],
    web_config_file: Path | None,
    telemetry_path: str,
    collect_workers: str,
    stale_after: float,
    lost_after: float,
    forget_after: float,
) -> None:
    """Serve the fleet's metrics to Prometheus.

    The exporter only reads, with at most two connections. While the metadata DB is unavailable, it still answers, with
    amp_metadata_db_up 0.

    \b
    Example:
      AMP_METADATA_DB_URL=postgresql://amp:secret@db.example.org/amp ampd exporter
      curl http://localhost:9610/metrics
    """
    from amp_workers.ampd.server import run_server
    from amp_workers.exporter import create_app

    if not _TELEMETRY_PATH.fullmatch(telemetry_path):
        raise click.UsageError(f"--web.telemetry-path {telemetry_path}: use a path like /metrics, not below /-/.")
    rules = policy(web_config_file)
    create = partial(
        create_app,
        metadata_db_url,
        thresholds(stale_after, lost_after, forget_after),
        collect_workers,
        telemetry_path,
        version(os.environ),
    )
    run_server(create, listen_addresses, rules, name="ampd exporter", threads=_THREADS)
