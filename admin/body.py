"""How the API writes JSON: one worker, a list of them, an error."""

from datetime import UTC, datetime
from typing import Any

import orjson
from flask import Response

from metadata_db import Worker


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response, with a newline at its end for people who use curl."""
    return Response(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE), status, content_type="application/json")


def worker_body(worker: Worker) -> dict[str, Any]:
    """Return a worker as the API shows it."""
    return {
        "node_id": worker.node_id,
        "state": worker.state,
        "heartbeat_age_seconds": worker.heartbeat_age_seconds,
        "created_at": timestamp(worker.created_at),
        "registered_at": timestamp(worker.registered_at),
        "heartbeat_at": timestamp(worker.heartbeat_at),
        "info": worker.info,
    }


def timestamp(moment: datetime) -> str:
    """Return `2025-01-15T17:20:15Z`: UTC and whole seconds, truncated; jq's fromdateiso8601 reads nothing else."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
