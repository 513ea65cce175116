"""The orders in which workers can be listed."""

import re
from collections.abc import Callable
from typing import Any

from amp_workers.ctl.fields import UNKNOWN, age_of, info_of, severity_of, state_of, uptime_seconds

_AFTER_ALL = float("inf")


def _version(worker: dict[str, Any]) -> tuple[bool, list[tuple[int, str]]]:
    """Order v0.0.9 before v0.0.10, and unknown last."""
    version = info_of(worker, "version")
    parts = re.findall(r"(\d{1,18})|(\D+|\d+)", version, re.ASCII)
    return version == UNKNOWN, [(int(number or 0), text) for number, text in parts]


def _uptime(worker: dict[str, Any]) -> float:
    seconds = uptime_seconds(worker)
    return _AFTER_ALL if seconds is None else seconds


def _created(worker: dict[str, Any]) -> tuple[bool, str]:
    created_at = worker.get("created_at", UNKNOWN)
    return created_at == UNKNOWN, created_at


def _last_seen(worker: dict[str, Any]) -> tuple[bool, float, str]:
    # By distance: a heartbeat from the future is no proof of life. Amp's own API has only the timestamp.
    age = age_of(worker)
    return age is None, 0.0 if age is None else -abs(age), worker["heartbeat_at"]


ORDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "node-id": lambda worker: worker["node_id"],
    "state": lambda worker: severity_of(state_of(worker)),
    "last-seen": _last_seen,
    "version": _version,
    "uptime": _uptime,
    "created": _created,
}
"""What each order compares; workers that are equal in it are ordered by node id."""
