"""The orders in which workers can be listed."""

import re
from collections.abc import Callable
from typing import Any

from amp_workers.ctl.uptime import uptime_seconds

STATES = ("active", "stale", "lost", "stopped", "forgotten")

_AFTER_ALL = float("inf")


def _version(worker: dict[str, Any]) -> tuple[bool, list[tuple[int, str]]]:
    """v0.0.9 before v0.0.10, and unknown at the end."""
    version = worker["info"]["version"]
    parts = re.findall(r"(\d{1,18})|(\D+|\d+)", version, re.ASCII)
    return version == "unknown", [(int(number or 0), text) for number, text in parts]


def _state(worker: dict[str, Any]) -> int:
    return STATES.index(worker["state"]) if worker["state"] in STATES else len(STATES)


def _uptime(worker: dict[str, Any]) -> float:
    seconds = uptime_seconds(worker)
    return _AFTER_ALL if seconds is None else seconds


def _created(worker: dict[str, Any]) -> tuple[bool, str]:
    return worker["created_at"] == "unknown", worker["created_at"]


ORDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "node-id": lambda worker: worker["node_id"],
    "state": _state,
    "age": lambda worker: -worker["heartbeat_age_seconds"],
    "version": _version,
    "uptime": _uptime,
    "created": _created,
}
"""What each order compares; workers that are equal in it stay ordered by node id."""
