"""`GET /workers`, `GET /workers/{id}` and `DELETE /workers/{id}`."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from flask import Blueprint, Response, request
from sqlalchemy import Connection

from amp_workers.admin.errors import AuthenticationRequired, WorkerNotFound
from amp_workers.admin.json_body import entity_tag, json_response, workers_body
from amp_workers.admin.parameters import no_parameters, selection
from amp_workers.metadata_db import (
    EVERY_WORKER,
    Forgetter,
    JobsLog,
    Order,
    Reader,
    Selection,
    Thresholds,
    Worker,
    check_node_id,
    count_jobs,
    get_worker,
    list_workers,
)

_log = logging.getLogger("amp_workers.admin")


def workers(
    reader: Reader, forgetter: Forgetter, thresholds: Thresholds, timeout_seconds: float, jobs_log: JobsLog
) -> Blueprint:
    """Return the routes of workers. timeout_seconds: of the metadata DB, for each request."""
    blueprint = Blueprint("workers", __name__)

    def read_some(connection: Connection, asked: Selection) -> list[Worker]:
        found = list_workers(connection, thresholds, asked)
        _add_jobs(connection, found, jobs_log, None if asked == EVERY_WORKER else [each["node_id"] for each in found])
        return found

    def read_one(connection: Connection, node_id: str) -> Worker | None:
        found = get_worker(connection, node_id, thresholds)
        if found is not None:
            _add_jobs(connection, [found], jobs_log, [node_id])
        return found

    @blueprint.get("/workers")
    def list_some() -> Response:
        wanted = selection(request.args)
        # One worker more than the limit shows whether another page follows.
        asked = wanted if wanted.limit is None else replace(wanted, limit=wanted.limit + 1)
        found = reader.query(lambda connection: read_some(connection, asked), timeout_seconds)
        page = found[: wanted.limit]
        next_after = _next_after(page[-1], wanted.order) if len(found) > len(page) else None
        tag = entity_tag(page, next_after)
        if request.if_none_match.contains_weak(tag):
            response = Response(status=304)
        else:
            response = json_response(workers_body(page, next_after))
        response.set_etag(tag, weak=True)
        return response

    @blueprint.get("/workers/<no_jobs:node_id>")
    def get_one(node_id: str) -> Response:
        check_node_id(node_id)
        no_parameters(request.args)
        found = reader.query(lambda connection: read_one(connection, node_id), timeout_seconds)
        if found is None:
            raise _not_found(node_id)
        return json_response(found)

    @blueprint.delete("/workers/<no_jobs:node_id>")
    def delete_one(node_id: str) -> Response:
        user = request.environ.get("REMOTE_USER")
        if not user:
            raise AuthenticationRequired
        check_node_id(node_id)
        no_parameters(request.args)
        was = forgetter.forget(node_id, thresholds, timeout_seconds)
        if was is None:
            raise _not_found(node_id)
        fields = {"certificate": request.environ.get("SSL_CLIENT_S_DN"), "address": request.remote_addr}
        _log.info(
            "worker '%s', which was %s, was deleted by %r",
            *(node_id, was, user),
            extra={"node_id": node_id, "user": user} | fields,
        )
        return Response(status=204)

    return blueprint


def _next_after(last: Worker, order: Order) -> str | None:
    """Return what `after` has to be for the next page; None in an order that has one page only."""
    if order is Order.HEARTBEAT:
        return None
    return f"{last['state']}:{last['node_id']}" if order is Order.STATE else last["node_id"]


def _add_jobs(
    connection: Connection, workers: Sequence[Worker], jobs_log: JobsLog, node_ids: Sequence[str] | None
) -> None:
    """Add the number of unfinished jobs to each worker, where it is known. node_ids: None to count those of all."""
    counts = None
    with jobs_log.suppressing():
        counts = count_jobs(connection, node_ids)
    if counts is not None:
        for worker in workers:
            worker["jobs"] = counts.get(worker["node_id"], 0)


def _not_found(node_id: str) -> WorkerNotFound:
    return WorkerNotFound(f"no worker has the node id '{node_id}'")
