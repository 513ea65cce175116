"""The JSON bodies of the API, and the ETag of a list."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson
from flask import Response

from amp_workers.metadata_db import State, Worker


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response. The newline at its end keeps a shell's prompt off curl's last line."""
    return Response(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE), status, content_type="application/json")


def workers_body(workers: Sequence[Worker], next_after: str | None) -> dict[str, Any]:
    """Return the body of a list. It has `next` only where another page follows."""
    return {"workers": workers} if next_after is None else {"workers": workers, "next": next_after}


def entity_tag(workers: Sequence[Worker], next_after: str | None) -> str:
    """Return the ETag of a list. It stays the same until a worker changes in more than its age and its progress.

    Ages grow, and active workers send heartbeats and report progress every second: a tag that covered these would never
    match. The tag covers the state, registration, info, end and number of jobs of each worker, and the last heartbeat
    of each worker that is not active or stuck.
    """
    covered = [
        value
        for worker in workers
        for value in (
            worker["node_id"],
            worker["state"],
            worker["created_at"],
            worker["registered_at"],
            None if worker["state"] in (State.ACTIVE, State.STUCK) else worker["heartbeat_at"],
            worker["info"],
            worker["stopped_at"],
            worker["exit_code"],
            worker["failure"],
            worker["jobs"],
        )
    ]
    return sha256(orjson.dumps([covered, next_after])).hexdigest()[:32]
