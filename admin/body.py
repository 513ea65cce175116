"""How the API writes JSON: one worker, a list of them, an error."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson
from flask import Response

from amp_workers.metadata_db import State, Worker


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response, with a newline at its end for people who use curl."""
    return Response(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE), status, content_type="application/json")


def workers_body(workers: Sequence[Worker], next_after: str | None) -> dict[str, Any]:
    """Return a list as the API shows it; `next` is only there where another page is."""
    return {"workers": workers} if next_after is None else {"workers": workers, "next": next_after}


def entity_tag(workers: Sequence[Worker], next_after: str | None) -> str:
    """Return what stands for a list as long as nothing happens in it.

    Ages grow, and active workers send heartbeats and report progress every second: with these in it, no tag would ever
    match. It covers each worker's state, registration, info, end and number of jobs, and the last heartbeat of each
    worker whose heartbeat is late.
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
