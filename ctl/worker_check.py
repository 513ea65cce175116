"""`ampctl worker check`."""

import json
from typing import Any, NamedTuple

import click

from amp_workers.ctl.client import AdminApi
from amp_workers.ctl.durations import duration_text, text_over
from amp_workers.ctl.errors import ApiError
from amp_workers.ctl.fields import STATES, age_of, info_of, is_unhealthy, severity_of, state_of
from amp_workers.ctl.globs import glob_matcher
from amp_workers.ctl.node_ids import NodeIdType
from amp_workers.ctl.options import DurationType, RangeType, admin_api, text_or_json_option
from amp_workers.ctl.ranges import Range
from amp_workers.ctl.render import shown

_JUDGED_BY_AGE = {"active", "stale", "lost"}

_DEFAULT_MAX_AGE = 5.0

_EXIT_CODES = {"OK": 0, "FAILED": 1, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


class _Check(NamedTuple):
    """The result of a check."""

    counted: int
    failures: dict[str, str]
    """Why each failing worker fails, by node id."""

    states: dict[str, int]
    """The number of workers in each state."""

    stranded: int | None
    """The number of stranded jobs; None where they do not count, or are unknown."""

    has_unknown_jobs: bool
    """Whether stranded jobs count, and are unknown although the workers' jobs are known."""


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
@click.option("--version", metavar="GLOB", help="The version that every worker must have, such as 'v0.3.*'.")
@click.option(
    "--max-stranded",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many jobs may be stranded, because their worker is gone. [default: 0, where jobs are known]",
)
@click.option("--nagios", is_flag=True, help="The exit codes and the output of a Nagios plugin, with performance data.")
@click.option(
    "--warning",
    type=RangeType(),
    metavar="RANGE",
    help="With --nagios: WARNING where the number of failing workers is outside of this range, such as 0 or 0:5.",
)
@click.option(
    "--critical",
    type=RangeType(),
    metavar="RANGE",
    help="With --nagios: CRITICAL, likewise. [default: 0, unless --warning is given]",
)
@text_or_json_option
@click.pass_context
def check_workers(
    context: click.Context,
    node_ids: tuple[str, ...],
    max_age: float | None,
    min_active: int,
    version: str | None,
    max_stranded: int | None,
    nagios: bool,
    warning: Range | None,
    critical: Range | None,
    output: str,
) -> None:
    """Check that workers are alive, by exit code.

    For scripts, CI, and monitoring systems that run commands. The first line is the result; one line per failing
    worker follows.

    Without NODE_ID, every worker counts except those that were stopped on purpose and those that are forgotten. A lost
    or failed worker fails until it is forgotten after a day, or until `ampctl worker forget`. A worker that is named
    must have a heartbeat, whatever its state. Failed and stuck workers fail at any age. Stranded jobs count for the
    whole fleet: without NODE_ID, or with --max-stranded.

    \b
    Examples:
      ampctl worker check
      ampctl worker check --max-age 30s --min-active 3
      ampctl worker check worker-01 worker-02
      until ampctl worker check --version v0.0.23 --min-active 3; do sleep 5; done
      ampctl worker check --nagios --warning 0 --critical 5

    \b
    Exit codes:
      0  OK: all workers that count pass, there are enough of them, and no more
         jobs are stranded than --max-stranded
      1  FAILED: some fail, there are too few, or too many jobs are stranded
      2  wrong usage
      3  UNKNOWN: the API cannot be reached, or answered with an error

    \b
    Exit codes with --nagios:
      0  OK
      1  WARNING: the number of failing workers is outside of --warning
      2  CRITICAL: it is outside of --critical, too few workers pass, or too many
         jobs are stranded
      3  UNKNOWN: as above, and wrong usage
    """
    if (warning or critical) and not nagios:
        raise click.UsageError("--warning and --critical need --nagios.", context)
    try:
        api = admin_api(context)
        check = _check(api, dict.fromkeys(node_ids), max_age, version, max_stranded)
    except ApiError as error:
        if output == "json":
            click.echo(json.dumps({"status": "UNKNOWN", "message": error.message}, indent=2))
        else:
            click.echo(f"UNKNOWN: {_plugin_text(error.message) if nagios else error}")
        context.exit(_EXIT_CODES["UNKNOWN"])
    if warning is None and critical is None:
        critical = Range.parse("0")
    is_short = check.counted - len(check.failures) < min_active
    has_stranded = (check.stranded or 0) > (max_stranded or 0)
    if nagios:
        status = _plugin_status(len(check.failures), warning, critical, is_short=is_short or has_stranded)
    else:
        status = "FAILED" if check.failures or is_short or has_stranded else "OK"
    message = _explained(check, max_age, min_active, has_stranded=has_stranded)
    if output == "json":
        _print_json(status, message, check)
    else:
        lines = [f"{status}: {message}"]
        lines += [shown(f"{node_id}: {why}") for node_id, why in check.failures.items()]
        if nagios:
            lines = list(map(_plugin_text, lines))
            lines[0] += f" | {_performance_data(check, warning, critical, max_stranded)}"
        click.echo("\n".join(lines))
    context.exit(_EXIT_CODES[status])


def _plugin_text(text: str) -> str:
    """Return a text for a Nagios plugin's output, where performance data begins at `|`."""
    return text.replace("|", "/")


def _check(
    api: AdminApi, node_ids: dict[str, None], max_age: float | None, version: str | None, max_stranded: int | None
) -> _Check:
    if node_ids:
        found = {node_id: _named(api, node_id) for node_id in node_ids}
        workers = [worker for worker in found.values() if worker is not None]
    else:
        # Without a filter: an unknown state counts as well.
        workers = api.workers(need_states=True)["workers"]
        found = {
            each["node_id"]: each for each in workers if is_unhealthy(state_of(each)) or state_of(each) == "active"
        }
    reasons = {
        node_id: "no worker with this node id" if worker is None else _failure(worker, max_age, version)
        for node_id, worker in found.items()
    }
    states = dict.fromkeys((*STATES[4::-1], *STATES[5:]), 0)  # active first
    for state in sorted(map(state_of, workers), key=severity_of):
        states[state] = states.get(state, 0) + 1
    # Where jobs are known, each worker has their number: otherwise a second request is useless.
    are_known = any(each.get("jobs") is not None for each in workers)
    stranded = None
    if max_stranded is not None or (not node_ids and (are_known or not workers)):
        stranded = _stranded(api, is_needed=max_stranded is not None)
    failures = {node_id: why for node_id, why in reasons.items() if why}
    return _Check(len(found), failures, states, stranded, not node_ids and are_known and stranded is None)


def _stranded(api: AdminApi, *, is_needed: bool) -> int | None:
    """Return how many jobs are stranded; None where that is unknown.

    Raises:
        ApiError: it is unknown, and needed.
    """
    jobs = api.fleet().get("jobs")
    if jobs is not None:
        return int(sum(jobs["stranded"].values()))
    if is_needed:
        cause = "jobs are unknown: the metadata DB is not Amp's own, or its jobs cannot be read"
        raise ApiError(f"{api.url}/fleet: {cause}", cause=cause, url=api.url)
    return None


def _named(api: AdminApi, node_id: str) -> dict[str, Any] | None:
    """Return one worker; None if no worker has the node id."""
    try:
        return api.worker(node_id, need_state=True)
    except ApiError as error:
        if error.code != "WORKER_NOT_FOUND":
            raise
        return None


def _failure(worker: dict[str, Any], max_age: float | None, version: str | None) -> str:
    """Return why a worker fails; nothing if it passes."""
    state, age, its_version = state_of(worker), age_of(worker), info_of(worker, "version")
    reasons = []
    limit = _DEFAULT_MAX_AGE if max_age is None else max_age
    if state == "stopped":
        reasons.append(state)
    # By distance: a heartbeat from the future is no proof of life.
    elif age is None or abs(age) > limit:
        reasons.append(f"{state}, last heartbeat {_when(age, limit)}")
    elif state not in _JUDGED_BY_AGE or (max_age is None and is_unhealthy(state)):
        reasons.append(f"{state}, last heartbeat {_when(age, 0.0)}")
    if worker.get("failure"):
        reasons.append(str(worker["failure"]))
    if version is not None and not glob_matcher([version])(its_version):
        reasons.append(f"version {its_version}, not {version}")
    return "; ".join(reasons)


def _when(age: float | None, limit: float) -> str:
    if age is None:
        return "unknown"
    return f"{text_over(abs(age), limit)} ago" if age >= 0 else f"{text_over(abs(age), limit)} in the future"


def _plugin_status(failing: int, warning: Range | None, critical: Range | None, *, is_short: bool) -> str:
    if is_short or (critical is not None and critical.is_violated_by(failing)):
        return "CRITICAL"
    return "WARNING" if warning is not None and warning.is_violated_by(failing) else "OK"


def _explained(check: _Check, max_age: float | None, min_active: int, *, has_stranded: bool) -> str:
    passing = check.counted - len(check.failures)
    problems = [f"{len(check.failures)} of {_workers(check.counted)} fail"] if check.failures else []
    if passing < min_active:
        problems.append(f"{_workers(passing)} pass, at least {min_active} must")
    if has_stranded:
        problems.append("1 job is stranded" if check.stranded == 1 else f"{check.stranded} jobs are stranded")
    oldest = duration_text(_DEFAULT_MAX_AGE if max_age is None else max_age)
    unknown = "; stranded jobs are unknown" if check.has_unknown_jobs else ""
    return ("; ".join(problems) or f"{_workers(check.counted)}, no heartbeat older than {oldest}") + unknown


def _performance_data(check: _Check, warning: Range | None, critical: Range | None, max_stranded: int | None) -> str:
    """https://nagios-plugins.org/doc/guidelines.html: 'label'=value;warn;crit;min."""
    values = [f"{_label(state)}={number};;;0" for state, number in check.states.items()]
    values.append(f"failing={len(check.failures)};{warning or ''};{critical or ''};0")
    if check.stranded is not None:
        values.append(f"stranded_jobs={check.stranded};;{max_stranded or 0};0")
    return " ".join(values)


def _label(state: str) -> str:
    # An unknown state can be any text.
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in state)
    return plain or "_"


def _print_json(status: str, message: str, check: _Check) -> None:
    document = {
        "status": status,
        "message": message,
        "counted": check.counted,
        "passing": check.counted - len(check.failures),
        "failures": [{"node_id": node_id, "reason": why} for node_id, why in check.failures.items()],
        "states": check.states,
        "stranded_jobs": check.stranded,
    }
    click.echo(json.dumps(document, indent=2))


def _workers(number: int) -> str:
    return f"{number} worker" if number == 1 else f"{number} workers"
