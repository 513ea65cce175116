"""`/docs`: the API's description as a page to read, made from the document that `/openapi.json` serves."""

import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, Response

from amp_workers.admin.html import content_security_policy, html_response, render, template_text

_SERVER = "http://localhost:1610"


class Operation(NamedTuple):
    """One operation of the API."""

    method: str
    path: str
    described: dict[str, Any]
    """Its object in the document."""

    parameters: list[dict[str, Any]]
    curl: str


def docs(document: dict[str, Any]) -> Blueprint:
    """Return the route of the page. The page loads no other resource."""
    style = template_text("docs.css")
    policy = content_security_policy(style)
    page = render(
        "docs.html",
        style=style,
        info=document["info"],
        operations=list(_operations(document)),
        schemas=document["components"]["schemas"],
        resolved=lambda value: _resolved(document, value),
        name=lambda value: value["$ref"].rpartition("/")[2] if "$ref" in value else None,
    )
    blueprint = Blueprint("docs", __name__)

    @blueprint.get("/docs")
    def show() -> Response:
        return html_response(page, policy)

    return blueprint


def _operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        shared = methods.get("parameters", [])
        for method in ("get", "delete"):
            if method in methods:
                described = methods[method]
                parameters = shared + described.get("parameters", [])
                yield Operation(method.upper(), path, described, parameters, _curl(method, path, described, parameters))


def _curl(method: str, path: str, described: dict[str, Any], parameters: list[dict[str, Any]]) -> str:
    query = {}
    for parameter in parameters:
        if "example" not in parameter:
            continue
        example = parameter["example"]
        text = ",".join(example) if isinstance(example, list) else str(example)
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", text)
        else:
            query[parameter["name"]] = text
    url = f"{_SERVER}{path}" + (f"?{urlencode(query, safe=',')}" if query else "")
    needs_user = "security" in described and described["security"] != []
    return " ".join(
        ["curl"]
        + (["-X", method.upper()] if method != "get" else [])
        + (['-H "Authorization: Bearer $AMP_AUTH_TOKEN"'] if needs_user else [])
        + [shlex.quote(url)]
    )


def _resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """Return the target of a reference, or the value itself."""
    if "$ref" not in value:
        return value
    found: Any = document
    for key in value["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return dict(found)
