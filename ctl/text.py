"""What `ampctl` prints for people: the documented lines, to the letter."""

from typing import Any


def shown(text: Any) -> str:
    """Return a text that a terminal can be given: what a worker says of itself is anybody's to write."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def worker_line(worker: dict[str, Any]) -> str:
    """Return a worker as one line of a list."""
    return f"{shown(worker['node_id'])} (last heartbeat: {shown(worker['heartbeat_at'])})"


def worker_details(worker: dict[str, Any]) -> str:
    """Return all that is known of one worker."""
    info = worker["info"]
    return f"""Node ID: {shown(worker["node_id"])}
Created: {shown(worker["created_at"])}
Registered: {shown(worker["registered_at"])}
Heartbeat: {shown(worker["heartbeat_at"])}

Worker Info:
  Version: {shown(info["version"])}
  Commit: {shown(info["commit_sha"])}
  Commit Timestamp: {shown(info["commit_timestamp"])}
  Build Date: {shown(info["build_date"])}"""
