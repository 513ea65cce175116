"""What `ampctl` prints for people: the documented lines, to the letter."""

from typing import Any


def worker_line(worker: dict[str, Any]) -> str:
    """Return a worker as one line of a list."""
    return f"{worker['node_id']} (last heartbeat: {worker['heartbeat_at']})"


def worker_details(worker: dict[str, Any]) -> str:
    """Return all that is known of one worker."""
    info = worker["info"]
    return f"""Node ID: {worker["node_id"]}
Created: {worker["created_at"]}
Registered: {worker["registered_at"]}
Heartbeat: {worker["heartbeat_at"]}

Worker Info:
  Version: {info["version"]}
  Commit: {info["commit_sha"]}
  Commit Timestamp: {info["commit_timestamp"]}
  Build Date: {info["build_date"]}"""
