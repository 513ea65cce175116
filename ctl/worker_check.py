"""`ampctl worker check`."""

from typing import Any

import click

from amp_workers.ctl.client import AdminApi
from amp_workers.ctl.durations import duration_text, text_over
from amp_workers.ctl.errors import ApiError
from amp_workers.ctl.fields import age_of, info_of, is_unhealthy, state_of
from amp_workers.ctl.node_ids import NodeIdType
from amp_workers.ctl.options import DurationType, admin_api
from amp_workers.ctl.render import shown

_JUDGED_BY_AGE = {"active", "stale", "lost"}

_DEFAULT_MAX_AGE = 5.0


@click.command("check")
@click.argument("node_ids", type=NodeIdType(), nargs=-1, metavar="[NODE_ID]...")
@click.option(
    "--max-age",
    type=DurationType(),
    metavar="DURATION",
    help="How old a heartbeat may be. [default: 5s, and no worker may be stale or lost]",
)
@click.option(
    "--min-active",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="How many workers must pass. With 0, a fleet of none passes.",
)
@click.option("--version", metavar="VERSION", help="The version that every worker must have.")
@click.pass_context
def check_workers(
    context: click.Context, node_ids: tuple[str, ...], max_age: float | None, min_active: int, version: str | None
) -> None:
    """Check that workers are alive, by exit code.

    For scripts, CI, and monitoring systems that run commands. The first line is the result; one line per failing
    worker follows.

    Without NODE_ID, every worker counts except those that were stopped on purpose and those that are forgotten. A lost
    or failed worker fails until it is forgotten after a day, or until `ampctl worker forget`. A worker that is named
    must have a heartbeat, whatever its state. Failed and stuck workers fail at any age.

    \b
    Examples:
      ampctl worker check
      ampctl worker check --max-age 30s --min-active 3
      ampctl worker check worker-01 worker-02
      until ampctl worker check --version v0.0.23 --min-active 3; do sleep 5; done

    \b
    Exit codes:
      0  OK: all workers that count pass, and there are enough of them
      1  FAILED: some fail, or there are too few (to Nagios, a warning)
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
        oldest = duration_text(_DEFAULT_MAX_AGE if max_age is None else max_age)
        click.echo(f"OK: {_workers(number)}, no heartbeat older than {oldest}")
        return
    problems = [f"{len(failures)} of {_workers(number)} fail"] if failures else []
    if passing < min_active:
        problems.append(f"{_workers(passing)} pass, at least {min_active} must")
    click.echo("\n".join([f"FAILED: {'; '.join(problems)}", *failures]))
    context.exit(1)


def _check(
    api: AdminApi, node_ids: dict[str, None], max_age: float | None, version: str | None
) -> tuple[list[str], int]:
    """Return a line for each worker that fails, and how many workers count."""
    if not node_ids:
        # Without a filter: a state that this version does not know counts as well.
        workers = api.workers(need_states=True)["workers"]
        counted = [each for each in workers if is_unhealthy(state_of(each)) or state_of(each) == "active"]
        return [line for worker in counted if (line := _failure(worker, max_age, version))], len(counted)
    failures = []
    for node_id in node_ids:
        try:
            failures.append(_failure(api.worker(node_id, need_state=True), max_age, version))
        except ApiError as error:
            if error.code != "WORKER_NOT_FOUND":
                raise
            failures.append(f"{node_id}: no worker with this node id")
    return [line for line in failures if line], len(node_ids)


def _failure(worker: dict[str, Any], max_age: float | None, version: str | None) -> str | None:
    """Return why a worker fails, as a line; None if it passes."""
    state, age, its_version = state_of(worker), age_of(worker), info_of(worker, "version")
    reasons = []
    limit = _DEFAULT_MAX_AGE if max_age is None else max_age
    if state == "stopped":
        reasons.append(state)
    # The distance: a heartbeat from the future is no proof of life.
    elif age is None or abs(age) > limit:
        reasons.append(f"{state}, last heartbeat {_when(age, limit)}")
    elif state not in _JUDGED_BY_AGE or (max_age is None and is_unhealthy(state)):
        reasons.append(f"{state}, last heartbeat {_when(age, 0.0)}")
    if worker.get("failure"):
        reasons.append(str(worker["failure"]))
    if version not in {None, its_version}:
        reasons.append(f"version {its_version}, not {version}")
    return shown(f"{worker['node_id']}: {'; '.join(reasons)}") if reasons else None


def _when(age: float | None, limit: float) -> str:
    if age is None:
        return "unknown"
    return f"{text_over(abs(age), limit)} ago" if age >= 0 else f"{text_over(abs(age), limit)} in the future"


def _workers(number: int) -> str:
    return f"{number} worker" if number == 1 else f"{number} workers"
