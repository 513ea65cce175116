"""`/openapi.json`: the description of the API, which is a file of this package, maintained by hand."""

import json
from importlib.resources import files
from typing import Any

import orjson
from flask import Blueprint, Response


def description(version: str) -> dict[str, Any]:
    """Return the description of the API that a version of this program serves."""
    document: dict[str, Any] = json.loads((files("amp_workers.admin") / "openapi.json").read_bytes())
    document["info"]["version"] = version
    return document


def openapi(document: dict[str, Any]) -> Blueprint:
    """Return the route that serves the description."""
    blueprint = Blueprint("openapi", __name__)
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2)

    @blueprint.get("/openapi.json")
    def serve() -> Response:
        return Response(text, content_type="application/json")

    return blueprint
