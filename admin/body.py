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

    Ages grow and active workers beat, every second: with these in it, no tag would ever match. What is in it: who is
    there, the state, the registration and the info of each, and the heartbeat of each that should beat and does not.
    """
    told = [
        value
        for worker in workers
        for value in (
            worker["node_id"],
            worker["state"],
            worker["created_at"],
            worker["registered_at"],
            None if worker["state"] == State.ACTIVE else worker["heartbeat_at"],
            worker["info"],
        )
    ]
    return sha256(orjson.dumps([told, next_after])).hexdigest()[:32]
