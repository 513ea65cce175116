"""`ampctl worker check`."""

from typing import Any

import click

from amp_workers.ctl.client import AdminApi, ApiError
from amp_workers.ctl.durations import duration_text
from amp_workers.ctl.node_ids import NodeIdType
from amp_workers.ctl.options import DurationType, admin_api
from amp_workers.ctl.text import shown

EXPECTED = ("active", "stale", "lost")
"""The states in which a heartbeat is expected. A stopped worker ended on purpose, and a forgotten one is long gone."""


@click.command("check")
@click.argument("node_ids", type=NodeIdType(), nargs=-1, metavar="[NODE_ID]...")
@click.option(
    "--max-age",
    type=DurationType(),
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="How old a heartbeat may be.",
)
@click.option(
    "--min-active",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="How many workers must pass. With 0, a fleet of none passes.",
)
@click.option("--version", metavar="VERSION", help="The version that every worker must be of.")
@click.pass_context
def check_workers(
    context: click.Context, node_ids: tuple[str, ...], max_age: float, min_active: int, version: str | None
) -> None:
    """Check that workers are alive, by exit code.

    For scripts, CI, and monitoring systems that run commands, such as Nagios. The first line tells the result, and one
    more each worker that fails.

    Without NODE_ID, every worker counts from which a heartbeat is expected: active, stale and lost ones. One that was
    stopped on purpose does not count, nor one that is forgotten after a day. A lost one that will not come back fails
    until then, or until `ampctl worker forget`. A worker that is named must have a heartbeat, whatever its state.

    \b
    Examples:
      ampctl worker check
      ampctl worker check --max-age 30s --min-active 3
      ampctl worker check worker-01 worker-02
      until ampctl worker check --version v0.0.23 --min-active 3; do sleep 5; done

    \b
    Exit codes:
      0  OK: all workers that count pass, and there are enough of them
      1  FAILED: some do not, or there are too few (to Nagios, a warning)
      2  wrong usage
      3  UNKNOWN: the API cannot be reached, or answered with an error
    """
    api = admin_api(context)
    try:
        failures, number = _check(api, dict.fromkeys(node_ids), max_age, version)
    except ApiError as error:
        click.echo(f"UNKNOWN: {error}")  # where a monitoring system looks for it
        context.exit(3)
    passing = number - len(failures)
    if not failures and passing >= min_active:
        click.echo(f"OK: {_workers(number)}, no heartbeat older than {duration_text(max_age)}")
        return
    told = [f"{len(failures)} of {_workers(number)} fail"] if failures else []
    if passing < min_active:
        told.append(f"{_workers(passing)} pass, at least {min_active} must")
    click.echo("\n".join([f"FAILED: {'; '.join(told)}", *failures]))
    context.exit(1)


def _check(api: AdminApi, node_ids: dict[str, None], max_age: float, version: str | None) -> tuple[list[str], int]:
    """Return a line for each worker that fails, and how many workers count."""
    if not node_ids:
        workers = api.workers(EXPECTED)["workers"]
        return [line for worker in workers if (line := _failure(worker, max_age, version))], len(workers)
    failures = []
    for node_id in node_ids:
        try:
            failures.append(_failure(api.worker(node_id), max_age, version))
        except ApiError as error:
            if error.code != "WORKER_NOT_FOUND":
                raise
            failures.append(f"{node_id}: no such worker ever registered, or it was removed")
    return [line for line in failures if line], len(node_ids)


def _failure(worker: dict[str, Any], max_age: float, version: str | None) -> str | None:
    its_version, age = worker["info"]["version"], worker["heartbeat_age_seconds"]
    reasons = []
    if worker["state"] == "stopped":
        reasons.append("stopped")
    elif age > max_age:
        reasons.append(f"{worker['state']}, last heartbeat {duration_text(age)} ago")
    if version not in {None, its_version}:
        reasons.append(f"version {its_version}, not {version}")
    return shown(f"{worker['node_id']}: {'; '.join(reasons)}") if reasons else None


def _workers(number: int) -> str:
    return f"{number} worker" if number == 1 else f"{number} workers"
