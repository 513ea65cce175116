"""`GET /workers` and `GET /workers/{id}`."""

from flask import Blueprint, Response
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from admin.body import json_response, worker_body
from admin.errors import WorkerNotFound
from metadata_db import Reader, Thresholds, check_node_id, get_worker, list_workers


class AnythingConverter(BaseConverter):
    """Whatever follows, with slashes (the server decodes %2F) and line feeds: an id that is not valid is told to be
    so, and is not taken for a path that does not exist."""

    part_isolating = False
    regex = r"[\s\S]+?"


def workers(reader: Reader, thresholds: Thresholds, timeout_seconds: float) -> Blueprint:
    """Return the routes that read workers, each within so many seconds."""
    blueprint = Blueprint("workers", __name__)

    @blueprint.record_once
    def add_converter(setup: BlueprintSetupState) -> None:
        setup.app.url_map.converters["anything"] = AnythingConverter

    @blueprint.get("/workers")
    def list_all() -> Response:
        found = reader.query(lambda connection: list_workers(connection, thresholds), timeout_seconds)
        return json_response({"workers": [worker_body(worker) for worker in found]})

    @blueprint.get("/workers/", defaults={"node_id": ""})
    @blueprint.get("/workers/<anything:node_id>")
    def get_one(node_id: str) -> Response:
        check_node_id(node_id)
        found = reader.query(lambda connection: get_worker(connection, node_id, thresholds), timeout_seconds)
        if found is None:
            raise WorkerNotFound(f"no worker with node id '{node_id}' ever registered")
        return json_response(worker_body(found))

    return blueprint
