"""`ampctl fleet`."""

import json
from typing import Any

import click

from amp_workers.ctl.durations import duration_text
from amp_workers.ctl.fields import STATES, severity_of
from amp_workers.ctl.options import admin_api, output_options
from amp_workers.ctl.render import is_coloured, shown

_VERSIONS_SHOWN = 10

_FATAL = "fatal"
"""The status of a job that Amp does not try again."""


@click.command("fleet")
@output_options("text", "json")
@click.pass_context
def show_fleet(context: click.Context, output: str) -> None:
    """Show how many workers are in each state.

    With the versions that run, the jobs where they are known, the oldest heartbeat, and the thresholds of the states.

    \b
    Examples:
      ampctl fleet
      ampctl fleet --json | jq .workers.lost
    """
    answer = admin_api(context).fleet()
    click.echo(json.dumps(answer, indent=2) if output == "json" else "\n".join(_lines(answer)))


def _lines(answer: dict[str, Any]) -> list[str]:
    from amp_workers.ctl.table import COLOURS

    workers = {**dict.fromkeys(STATES, 0), **answer["workers"]}
    lines = [f"Workers: {sum(workers.values())}"]
    for state in sorted(workers, key=severity_of):
        number = f"{workers[state]:>7}"
        coloured = is_coloured() and workers[state] and state in COLOURS
        lines.append(f"{number}  \x1b[{COLOURS[state]}m{state}\x1b[0m" if coloured else f"{number}  {shown(state)}")
    versions = list(answer["versions"].items())
    lines.append("Running versions:" if versions else "Running versions: none")
    lines += [f"{number:>7}  {shown(version)}" for version, number in versions[:_VERSIONS_SHOWN]]
    if len(versions) > _VERSIONS_SHOWN:
        lines.append(f"         {len(versions) - _VERSIONS_SHOWN} more")
    lines += _jobs(answer.get("jobs"))
    age = answer.get("oldest_heartbeat_age_seconds")
    lines.append(f"Oldest heartbeat: {'none expected' if age is None else _age(age)}")
    thresholds = answer.get("thresholds")
    if thresholds:
        each = (f"{shown(name.removesuffix('_seconds'))} {_seconds(value)}" for name, value in thresholds.items())
        lines.append(f"Thresholds: {', '.join(each).replace('_', ' ')}")
    return lines


def _jobs(jobs: dict[str, Any] | None) -> list[str]:
    """Return the jobs by status, and the stranded ones. Only Amp's own database has jobs."""
    if jobs is None:
        return ["Jobs: unknown"]
    unfinished = {status: number for status, number in jobs["status"].items() if number and status != _FATAL}
    lines = [f"{number:>7}  {shown(status)}" for status, number in unfinished.items()]
    lines += [
        f"{number:>7}  stranded: their worker is {shown(state)}" for state, number in jobs["stranded"].items() if number
    ]
    age = jobs.get("oldest_not_picked_up_age_seconds")
    if isinstance(age, int | float):
        lines.append(f"         not picked up for {duration_text(age)}: the oldest scheduled job of an active worker")
    lines = ["Unfinished jobs:", *lines] if lines else ["Unfinished jobs: none"]
    fatal = jobs["status"].get(_FATAL)
    return [*lines, f"Fatal jobs: {fatal}"] if fatal else lines


def _age(age: float) -> str:
    return f"{duration_text(age)} ago" if age >= 0 else f"{duration_text(-age)} in the future"


def _seconds(value: float) -> str:
    return duration_text(value) if value == int(value) else f"{value:g}s"
