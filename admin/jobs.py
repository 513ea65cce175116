"""`GET /workers/{id}/jobs`: the jobs of one worker, where the metadata DB is Amp's own."""

import re
from collections.abc import Mapping

from flask import Blueprint, Response, request
from sqlalchemy import Connection

from amp_workers.admin.errors import WorkerNotFound
from amp_workers.admin.json_body import json_response
from amp_workers.admin.parameters import InvalidParameter, check_names, limit_of, shown
from amp_workers.metadata_db import (
    Job,
    JobsLog,
    Reader,
    Thresholds,
    check_node_id,
    get_worker,
    has_jobs,
    list_jobs,
)

_STATUSES = re.compile(r"[A-Z_]{1,40}(,[A-Z_]{1,40})*")
_JOB_ID = re.compile(r"[0-9]{1,18}")


def jobs(reader: Reader, thresholds: Thresholds, timeout_seconds: float, jobs_log: JobsLog) -> Blueprint:
    """Return the route of a worker's jobs. timeout_seconds: of the metadata DB, for each request."""
    blueprint = Blueprint("jobs", __name__)

    @blueprint.get("/workers/<node_id>/jobs")
    def list_some(node_id: str) -> Response:
        if "%2F" in request.environ.get("REQUEST_URI", "").upper():
            # The server decodes %2F, so that the path of the node id `a/jobs` looks like that of the jobs of `a`.
            check_node_id(f"{node_id}/jobs")
        check_node_id(node_id)
        check_names(request.args, ("status", "limit", "after"))
        values = request.args.to_dict()
        statuses, after, limit = _statuses(values), _after(values), limit_of(values)

        def read(connection: Connection) -> list[Job] | None:
            found = None
            with jobs_log.suppressing("job_events"):
                # One more than the limit shows whether another page follows.
                most = None if limit is None else limit + 1
                found = list_jobs(connection, node_id, statuses=statuses, after=after, limit=most)
                exists = found or get_worker(connection, node_id, thresholds) or has_jobs(connection, node_id)
                if not exists:
                    raise WorkerNotFound(f"no worker has the node id '{node_id}'")
            return found

        found = reader.query(read, timeout_seconds)
        if found is None or limit is None or len(found) <= limit:
            return json_response({"jobs": found})
        return json_response({"jobs": found[:limit], "next": str(found[limit - 1]["id"])})

    return blueprint


def _statuses(values: Mapping[str, str]) -> list[str]:
    if "status" not in values:
        return []
    if not _STATUSES.fullmatch(values["status"]):
        raise InvalidParameter(
            f"parameter status: {shown(values['status'])} is invalid; expected Amp's statuses, such as "
            "RUNNING, separated by commas"
        )
    return values["status"].split(",")


def _after(values: Mapping[str, str]) -> int:
    if "after" not in values:
        return 0
    if not _JOB_ID.fullmatch(values["after"]):
        raise InvalidParameter(f"parameter after: {shown(values['after'])} is invalid; expected the id of a job")
    return int(values["after"])
