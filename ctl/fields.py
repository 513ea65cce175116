"""A worker's fields. A field that the API does not send is unknown."""

from datetime import datetime
from typing import Any

UNKNOWN = "unknown"

STATES = ("failed", "lost", "stale", "stuck", "active", "stopped", "forgotten")
"""The worst first."""

_HEALTHY_OR_ENDED = {"active", "stopped", "forgotten"}

_RUNNING = {"active", "stuck", "stale"}


def state_of(worker: dict[str, Any]) -> str:
    return str(worker.get("state", UNKNOWN))


def age_of(worker: dict[str, Any]) -> float | None:
    """Return the heartbeat's age in seconds, by the database's clock; negative where it lies in the future."""
    age: float | None = worker.get("heartbeat_age_seconds")
    return age


def info_of(worker: dict[str, Any], key: str) -> str:
    return str(worker.get("info", {}).get(key, UNKNOWN))


def severity_of(state: str) -> float:
    """Return the place of a state in a list with the worst first. An unknown state counts as unhealthy."""
    return STATES.index(state) if state in STATES else STATES.index("active") - 0.5


def is_unhealthy(state: str) -> bool:
    """Return whether a state is unhealthy, as every unknown state is."""
    return state not in _HEALTHY_OR_ENDED


def uptime_seconds(worker: dict[str, Any]) -> float | None:
    """Return the time from a worker's registration to the API's answer, by the database's clock alone.

    None for a worker that does not run, and where the API does not have its registration.
    """
    age = age_of(worker)
    if state_of(worker) not in _RUNNING or age is None:
        return None
    try:
        registered, heartbeat = (_moment(worker.get(name, UNKNOWN)) for name in ("registered_at", "heartbeat_at"))
    except ValueError:
        return None
    # The API's timestamps are in whole seconds: a worker that has just started can seem to start later.
    return max((heartbeat - registered).total_seconds() + age, 0.0)


def progress_age(worker: dict[str, Any]) -> float | None:
    """Return the distance of a worker's last progress from the API's answer, in seconds; None where there is none."""
    age = age_of(worker)
    try:
        progress, heartbeat = _moment(str(worker.get("progress_at"))), _moment(worker["heartbeat_at"])
    except ValueError:
        return None
    return None if age is None else abs((heartbeat - progress).total_seconds() + age)


def _moment(text: str) -> datetime:
    if not text.endswith("Z"):
        raise ValueError(text)
    return datetime.fromisoformat(text)  # strptime takes 5 ms to import
