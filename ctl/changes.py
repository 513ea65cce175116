"""`ampctl worker list --watch -o jsonl`: one line per change of a worker, for programs that follow a fleet."""

import json
import signal
import sys
from collections.abc import Callable, Collection
from typing import Any

import click

from amp_workers.ctl.fields import is_unhealthy, state_of
from amp_workers.ctl.polling import poll

Worker = dict[str, Any]

_COMPARED = ("state", "registered_at", "stopped_at", "exit_code", "failure")
"""The fields of which a new value is a change: heartbeats and progress are not among them."""


def print_changes(
    look: Callable[[], list[Worker]], states: Collection[str], problems: bool, interval_seconds: float
) -> None:
    """Print the changes until SIGINT or SIGTERM, which is an exit with 0. An outage is reported on stderr.

    states, problems: only changes from or into these states; from or into an unhealthy one.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))

    def is_wanted(*its_states: str | None) -> bool:
        known = [each for each in its_states if each is not None]
        return (not states or any(each in states for each in known)) and (not problems or any(map(is_unhealthy, known)))

    before: dict[str, Worker] = {}
    for workers in poll(look, interval_seconds):
        after = {worker["node_id"]: worker for worker in workers}
        for node_id in sorted(before.keys() | after.keys()):
            was, now = before.get(node_id), after.get(node_id)
            if _compared(was) != _compared(now):
                left, entered = (None if each is None else state_of(each) for each in (was, now))
                if is_wanted(left, entered):
                    click.echo(_line(node_id, left, entered, now))
        if sys.stdout:
            sys.stdout.flush()
        before = after


def _compared(worker: Worker | None) -> list[Any] | None:
    return None if worker is None else [worker.get(name) for name in _COMPARED]


def _line(node_id: str, state_before: str | None, state_after: str | None, worker: Worker | None) -> str:
    from datetime import UTC, datetime

    # This machine's clock: it is the time of the look.
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    change = {"time": now, "node_id": node_id, "state_before": state_before, "state_after": state_after}
    return json.dumps(change | {"worker": worker})
