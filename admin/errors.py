"""Every error of the API has one shape, whatever its status: `{"error_code", "error_message"}`. Those of the fleet page
are HTML."""

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from amp_workers.admin.json_body import json_response
from amp_workers.admin.page.document import is_page, show_error
from amp_workers.admin.parameters import InvalidParameter
from amp_workers.errors import AmpError
from amp_workers.metadata_db import InvalidNodeId, MetadataDbError, NotInDatabase, NotWritable, WorkerAlive, WorkerInUse

_log = logging.getLogger("amp_workers.admin")


class WorkerNotFound(AmpError):
    """No worker has that node id."""


class AuthenticationRequired(AmpError):
    """The request would delete a worker, and no authentication is configured."""

    def __init__(self) -> None:
        super().__init__(
            "only an authenticated client can delete a worker, and no authentication is configured: start `ampd admin` "
            "with --auth-token-file or --web.config.file"
        )


ERRORS: dict[type[Exception], tuple[int, str]] = {
    InvalidNodeId: (400, "INVALID_WORKER_ID"),
    InvalidParameter: (400, "INVALID_PARAMETER"),
    NotInDatabase: (400, "INVALID_PARAMETER"),
    AuthenticationRequired: (403, "AUTHENTICATION_REQUIRED"),
    NotWritable: (403, "METADATA_DB_READ_ONLY"),
    WorkerNotFound: (404, "WORKER_NOT_FOUND"),
    WorkerAlive: (409, "WORKER_ALIVE"),
    WorkerInUse: (409, "WORKER_IN_USE"),
    MetadataDbError: (503, "METADATA_DB_UNAVAILABLE"),
}
"""Status and error code of each exception that a request can raise."""

HTTP_ERRORS = {
    401: "UNAUTHORIZED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    429: "TOO_MANY_REQUESTS",
    503: "METADATA_DB_UNAVAILABLE",
}
"""Error codes of the statuses that Flask and `web` return by themselves."""


def register_errors(app: Flask) -> None:
    """Register error handlers that return every failure in the documented shape."""

    def known_error(error: Exception) -> Response:
        kind = next(kind for kind in ERRORS if isinstance(error, kind))
        return error_response(*ERRORS[kind], str(error))

    for kind in ERRORS:
        app.register_error_handler(kind, known_error)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        code = HTTP_ERRORS.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
        message = {
            404: f"not found: {request.path!r}. See /docs for the available endpoints",
            405: f"{request.method} is not allowed at {request.path!r}",
        }.get(status, error.description or error.name)
        response = error_response(status, code, message)
        described = error.get_response().headers
        for name in ("Allow", "WWW-Authenticate", "Retry-After"):
            response.headers.setlist(name, described.getlist(name))
        return response

    @app.errorhandler(Exception)
    def internal_error(error: Exception) -> Response:
        # An unexpected exception may hold a secret: the client gets a fixed text, and the log the exception.
        _log.error("request failed", exc_info=error, extra={"method": request.method, "path": request.path})
        return error_response(500, "INTERNAL_ERROR", "internal error of the Admin API; see its log")


def error_response(status: int, code: str, message: str) -> Response:
    """Return one error: as JSON, or as HTML for a path of the fleet page."""
    if is_page(request.path):
        return show_error(status, message)
    return json_response({"error_code": code, "error_message": message}, status)
