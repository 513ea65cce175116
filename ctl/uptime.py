"""For how long a worker has been running, by the database's clock alone."""

from datetime import datetime
from typing import Any


def uptime_seconds(worker: dict[str, Any]) -> float | None:
    """Return the time from a worker's registration to the API's answer.

    None for a worker that is neither active nor stale, and where the API does not know when it registered.
    """
    if worker["state"] not in {"active", "stale"}:
        return None
    try:
        registered, heartbeat = (_moment(worker[name]) for name in ("registered_at", "heartbeat_at"))
    except ValueError:  # "unknown", from a database of an older Amp
        return None
    # The API's moments are in whole seconds, so that a worker that has only just started may seem to start later.
    age: float = worker["heartbeat_age_seconds"]
    return max((heartbeat - registered).total_seconds() + age, 0.0)


def _moment(text: str) -> datetime:
    if not text.endswith("Z"):
        raise ValueError(text)
    return datetime.fromisoformat(text)  # strptime would take 5 ms to import
