"""The columns of the table and of CSV: a text for people, and a value for programs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from amp_workers.ctl.durations import duration_text
from amp_workers.ctl.fields import UNKNOWN, age_of, info_of, progress_age, state_of, uptime_seconds

Worker = dict[str, Any]

NONE = "-"
"""The text of a column without a value."""


class Column(NamedTuple):
    """One column."""

    heading: str
    field: str
    """Its name in CSV: the API's where the API has the field."""

    text: Callable[[Worker], str]
    value: Callable[[Worker], Any]
    """None where there is none."""

    shortened: str = ""
    """Where a text is cut on a narrow terminal: in the `middle`, at the `end`, or not at all."""


def age_text(worker: Worker) -> str:
    """Return the age of a worker's heartbeat."""
    age = age_of(worker)
    return UNKNOWN if age is None else duration_text(age)


def uptime_text(worker: Worker) -> str:
    """Return a worker's uptime; `-` where there is none."""
    seconds = uptime_seconds(worker)
    return NONE if seconds is None else duration_text(seconds)


def _status_text(worker: Worker) -> str:
    return _status_value(worker) or NONE


def _status_value(worker: Worker) -> str | None:
    """Return why a worker failed, or what it reports of its progress."""
    if worker.get("failure"):
        return str(worker["failure"])
    progress = worker.get("progress")
    age = progress_age(worker)
    if state_of(worker) == "stuck" and age is not None:
        return f"no progress for {duration_text(age)}" + (f": {progress}" if progress else "")
    if progress:
        return str(progress)
    return None if worker.get("exit_code") is None else f"exit code {worker['exit_code']}"


def _uptime_value(worker: Worker) -> str | None:
    seconds = uptime_seconds(worker)
    return None if seconds is None else f"{seconds:.3f}"


def _plain(heading: str, field: str, shortened: str = "") -> Column:
    def value(worker: Worker) -> Any:
        return worker.get(field)

    def text(worker: Worker) -> str:
        found = value(worker)
        return NONE if found is None else str(found)

    return Column(heading, field, text, value, shortened)


def _info(heading: str, field: str) -> Column:
    def value(worker: Worker) -> str:
        return info_of(worker, field)

    return Column(heading, field, value, value, "middle")


COLUMNS = {
    "state": Column("STATE", "state", state_of, state_of),
    "id": _plain("NODE ID", "node_id", "middle"),
    "last-seen": Column("LAST SEEN", "heartbeat_age_seconds", age_text, age_of),
    "version": _info("VERSION", "version"),
    "uptime": Column("UPTIME", "uptime_seconds", uptime_text, _uptime_value),
    "jobs": _plain("JOBS", "jobs"),
    "status": Column("STATUS", "status", _status_text, _status_value, "end"),
    "created": _plain("CREATED", "created_at"),
    "registered": _plain("REGISTERED", "registered_at"),
    "heartbeat": _plain("HEARTBEAT", "heartbeat_at"),
    "commit": _info("COMMIT", "commit_sha"),
    "commit-timestamp": _info("COMMIT TIMESTAMP", "commit_timestamp"),
    "build-date": _info("BUILD DATE", "build_date"),
    "stopped": _plain("STOPPED", "stopped_at"),
    "exit-code": _plain("EXIT CODE", "exit_code"),
    "failure": _plain("FAILURE", "failure", "end"),
    "progress": _plain("PROGRESS", "progress", "end"),
    "progress-at": _plain("PROGRESS AT", "progress_at"),
}

WIDE = ("state", "id", "last-seen", "version", "uptime", "jobs", "status")
"""The columns of the table."""

CSV = (
    *("id", "state", "last-seen", "uptime", "created", "registered", "heartbeat"),
    *("version", "commit", "commit-timestamp", "build-date"),
    *("stopped", "exit-code", "failure", "progress", "progress-at", "jobs"),
)
"""The columns of CSV."""
