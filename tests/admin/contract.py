"""The check of a response against the description of the Admin API."""

import copy
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from jsonschema_rs import Draft202012Validator

DOCUMENT: dict[str, Any] = json.loads((files("amp_workers.admin") / "openapi.json").read_text())

_NAMES = {"etag": "ETag", "www-authenticate": "WWW-Authenticate"}
"""Headers whose spelling in the description is not title case."""

SEEN: set[tuple[str, str, int]] = set()
"""Every operation and status that was checked since the process started."""


def is_page(path: str) -> bool:
    """Whether all responses of a path are HTML."""
    return path == "/" or path.startswith("/w/")


def _strict(document: dict[str, Any]) -> dict[str, Any]:
    """The description with no additional fields allowed. Clients must accept additional fields."""
    strict = copy.deepcopy(document)
    for schema in strict["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return strict


_STRICT = _strict(DOCUMENT)


def assert_described(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Fail unless the description has this response to this request: status, headers, media type, schema, error code.

    headers: `named` as in the description. body: uncompressed. The body of a HEAD is ignored.
    """
    where = f"{method} {path} answers {status}"
    answer = _answer(method, path, status)
    assert answer is not None, f"{where}, which is not described"
    for name, header in answer.get("headers", {}).items():
        assert name in headers, f"{where} without {name}"
        _check(_resolved(header)["schema"], headers[name], f"{where} with {name}")
    content = answer.get("content")
    if content is None:
        assert not body, f"{where} with a body that is not described"
        assert "Content-Type" not in headers, where
        return
    media = headers.get("Content-Type", "").partition(";")[0]
    assert media in content, f"{where} with {media}, which is not described"
    if method != "HEAD":
        text = body.decode()
        _check(content[media]["schema"], json.loads(text) if media == "application/json" else text, where)


def named(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of a response, with their names as in the description."""
    return {_NAMES.get(name.lower(), name.title()): value for name, value in headers}


def _answer(method: str, path: str, status: int) -> dict[str, Any] | None:
    route = "/workers/{id}" if path.startswith("/workers/") else "/w/{id}" if path.startswith("/w/") else path
    if re.fullmatch("/workers/[^/]+/jobs", path):
        route = "/workers/{id}/jobs"
    operations = DOCUMENT["paths"].get(route, {})
    operation = operations.get("get" if method == "HEAD" else method.lower())
    if operation is None:
        responses = DOCUMENT["components"]["responses"]
        if status == 401:
            return _resolved(responses["PageUnauthorized" if is_page(path) else "Unauthorized"])
        if status == 405 and is_page(path):
            return _resolved(responses["PageMethodNotAllowed"])
        return _resolved(responses["MethodNotAllowed" if operations else "NotFound"]) if status in {404, 405} else None
    SEEN.add((operation["operationId"], method, status))
    answer = operation["responses"].get(str(status))
    return None if answer is None else _resolved(answer)


def _resolved(value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = DOCUMENT
    for key in value["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    assert isinstance(found, dict)
    return found


def _check(schema: dict[str, Any], value: Any, where: str) -> None:
    validator = Draft202012Validator({"$id": "urn:api", "components": _STRICT["components"], **schema})
    problem = next(iter(validator.iter_errors(value)), None)
    assert problem is None, f"{where}: {problem}"


def error_codes(document: Any) -> set[str]:
    """Every error code of the responses in the description."""
    if isinstance(document, list):
        return set().union(*map(error_codes, document))
    if not isinstance(document, dict):
        return set()
    own = document.get("properties", {}).get("error_code", {}).get("enum", ())
    return set(own).union(*map(error_codes, document.values()))
