"""`/openapi.json`: the description of the API, which is a file of this package, maintained by hand."""

from importlib.resources import files

from flask import Blueprint, Response

DOCUMENT = (files("amp_workers.admin") / "openapi.json").read_bytes()


def openapi() -> Blueprint:
    """Return the route that serves the description."""
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get("/openapi.json")
    def serve() -> Response:
        return Response(DOCUMENT, content_type="application/json")

    return blueprint
