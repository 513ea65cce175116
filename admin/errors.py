"""Every error of the API, of any status, in one shape: `{"error_code", "error_message"}`."""

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from admin.body import json_response
from metadata_db import InvalidNodeId, MetadataDbError

_log = logging.getLogger("admin")


class WorkerNotFound(Exception):
    """No worker ever registered under that node id."""


def register_errors(app: Flask) -> None:
    """Have the application answer every failure in the documented shape."""

    @app.errorhandler(InvalidNodeId)
    def invalid_node_id(error: InvalidNodeId) -> Response:
        return error_response(400, "INVALID_WORKER_ID", str(error))

    @app.errorhandler(WorkerNotFound)
    def worker_not_found(error: WorkerNotFound) -> Response:
        return error_response(404, "WORKER_NOT_FOUND", str(error))

    @app.errorhandler(MetadataDbError)
    def metadata_db_unavailable(error: MetadataDbError) -> Response:
        return error_response(503, "METADATA_DB_UNAVAILABLE", str(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        code = "INTERNAL_ERROR" if status == 500 else error.name.upper().replace(" ", "_")
        message = {
            404: f"there is nothing at {request.path}",
            405: f"{request.method} is not allowed at {request.path}",
        }.get(status, error.description or error.name)
        response = error_response(status, code, message)
        allow = error.get_response().headers.get("Allow")
        if allow is not None:
            response.headers["Allow"] = allow
        return response

    @app.errorhandler(Exception)
    def internal_error(error: Exception) -> Response:
        # What went wrong is for the log: the client gets nothing that could hold a secret.
        _log.error("a request failed", exc_info=error)
        return error_response(500, "INTERNAL_ERROR", "the Admin API failed; its log says why")


def error_response(status: int, code: str, message: str) -> Response:
    """Return one error as JSON."""
    return json_response({"error_code": code, "error_message": message}, status)
