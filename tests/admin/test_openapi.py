"""The description has each route, parameter, error code and state of the application, and no others."""

import base64
import json
import re
import typing
from dataclasses import dataclass
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import pytest
import schemathesis
from flask.testing import FlaskClient
from jsonschema_rs import Draft202012Validator

from amp_workers.admin.errors import ERRORS, HTTP_ERRORS
from amp_workers.admin.parameters import MAX_GLOBS, MAX_LIMIT
from amp_workers.metadata_db import ORDERS, STATES, check_node_id
from amp_workers.metadata_db.node_id import MAX_LENGTH
from tests.admin.contract import DOCUMENT, assert_described, error_codes
from tests.conftest import Insert
from tests.node_ids import INVALID, VALID

SCHEMAS = DOCUMENT["components"]["schemas"]


def test_it_is_served_as_it_is_written(api: FlaskClient) -> None:
    assert api.get("/openapi.json").json == DOCUMENT
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_its_server_url_is_relative() -> None:
    """The server URL is relative: a proxy may serve the API under a prefix."""
    (server,) = DOCUMENT["servers"]
    assert urljoin("https://proxy.example.org/amp/openapi.json", server["url"]) == "https://proxy.example.org/amp/"


def test_the_metrics_name_its_paths(api: FlaskClient) -> None:
    for path in DOCUMENT["paths"]:
        api.get(path.replace("{id}", "worker-01"))
    assert set(re.findall(r'requests_total{method="GET",route="([^"]*)"', api.get("/metrics").text)) == set(
        DOCUMENT["paths"]
    )


def test_it_has_every_route_and_no_other(api: FlaskClient) -> None:
    routes = {
        (re.sub(r"<.*>", "{id}", rule.rule), method.lower())
        for rule in api.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }
    described = {
        (path, name) for path, methods in DOCUMENT["paths"].items() for name in methods if name != "parameters"
    }
    assert described == routes


def test_it_has_every_error_code_and_no_other() -> None:
    codes = {code for _, code in ERRORS.values()} | set(HTTP_ERRORS.values())
    codes |= {"BAD_REQUEST", "INTERNAL_ERROR"}
    assert set(SCHEMAS["ErrorCode"]["enum"]) == codes
    assert error_codes(DOCUMENT) == codes


def test_it_has_the_rules_that_the_code_has() -> None:
    assert SCHEMAS["State"]["enum"] == list(STATES)
    assert SCHEMAS["NodeId"]["maxLength"] == MAX_LENGTH
    parameters = {each["name"]: each for each in DOCUMENT["paths"]["/workers"]["get"]["parameters"]}
    assert parameters["limit"]["schema"]["maximum"] == MAX_LIMIT
    assert parameters["node_id"]["schema"]["maxItems"] == MAX_GLOBS
    assert parameters["sort"]["schema"]["enum"] == list(ORDERS)


@pytest.mark.parametrize("node_id", [*VALID, *INVALID.values()])
def test_its_node_ids_are_those_that_the_code_takes(node_id: str) -> None:
    # In a JSON Schema, `$` matches only at the end. In Python, it also matches before a final line feed.
    by_the_description = re.fullmatch(SCHEMAS["NodeId"]["pattern"], node_id) is not None and not node_id.endswith("\n")
    try:
        check_node_id(node_id)
        valid = True
    except ValueError:
        valid = False
    assert valid == (by_the_description and len(node_id) <= SCHEMAS["NodeId"]["maxLength"])


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (418, {"Content-Type": "application/json"}, {}),
        (200, {"Content-Type": "application/json"}, {"workers": []}),
        (200, {"Content-Type": "text/html", "ETag": f'W/"{"0" * 32}"'}, {"workers": []}),
        (200, {"Content-Type": "application/json", "ETag": f'W/"{"0" * 32}"'}, {"workers": [], "more": 1}),
        (200, {"Content-Type": "application/json", "ETag": f'W/"{"0" * 32}"'}, {"workers": [{"node_id": "w"}]}),
        (400, {"Content-Type": "application/json"}, {"error_code": "WORKER_ALIVE", "error_message": "m"}),
        (304, {"ETag": "1"}, None),
    ],
)
def test_an_undescribed_response_is_detected(status: int, headers: dict[str, str], body: Any) -> None:
    """The check itself works: a response that the description does not have fails a test."""
    with pytest.raises(AssertionError):
        assert_described("GET", "/workers", status, headers, b"" if body is None else json.dumps(body).encode())


@dataclass
class WorkerInfo:
    """The fields that Amp's own clients read from a worker in a list. The classes below are of other responses."""

    node_id: str
    heartbeat_at: str


@dataclass
class WorkersResponse:
    workers: list[WorkerInfo]


@dataclass
class WorkerMetadata:
    version: str
    commit_sha: str
    commit_timestamp: str
    build_date: str


@dataclass
class WorkerDetailResponse:
    node_id: str
    info: WorkerMetadata
    created_at: str
    registered_at: str
    heartbeat_at: str


@dataclass
class ErrorResponse:
    error_code: str
    error_message: str


def parse(model: Any, value: Any) -> Any:
    """Parse JSON as Amp's clients do: each field is required and has its type; additional fields are ignored."""
    if typing.get_origin(model) is list:
        assert isinstance(value, list)
        return [parse(typing.get_args(model)[0], each) for each in value]
    if model is str:
        assert isinstance(value, str)
        return value
    return model(**{name: parse(kind, value[name]) for name, kind in typing.get_type_hints(model).items()})


def test_amps_own_clients_can_parse_the_responses(api: FlaskClient, insert_worker: Insert) -> None:
    insert_worker("w", age=600, info='{"version": "v1", "commit_sha": 7}')
    insert_worker("silent", age=600, info="[]")
    listed = parse(WorkersResponse, api.get("/workers").json)
    assert [worker.node_id for worker in listed.workers] == ["silent", "w"]
    page = parse(WorkersResponse, api.get("/workers?limit=1&state=lost").json)
    assert [worker.node_id for worker in page.workers] == ["silent"]
    worker = parse(WorkerDetailResponse, api.get("/workers/w").json)
    assert worker.info == WorkerMetadata("v1", "unknown", "unknown", "unknown")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", worker.heartbeat_at)
    for path, code in (("/workers/1", "INVALID_WORKER_ID"), ("/workers/x", "WORKER_NOT_FOUND")):
        assert parse(ErrorResponse, api.get(path).json).error_code == code


def examples() -> dict[str, tuple[dict[str, Any], Any]]:
    """Yield each example response: its operation, its schema and the example."""
    found = {}
    for methods in DOCUMENT["paths"].values():
        for operation in (each for name, each in methods.items() if name != "parameters"):
            for content in operation["responses"].get("200", {}).get("content", {}).values():
                if "example" in content:
                    found[operation["operationId"]] = (content["schema"], content["example"])
    return found


def test_each_operation_with_an_answer_has_an_example_that_its_schema_allows() -> None:
    operations = {
        operation["operationId"]
        for methods in DOCUMENT["paths"].values()
        for name, operation in methods.items()
        if name != "parameters" and "200" in operation["responses"]
    }
    assert set(examples()) == operations
    for schema, example in examples().values():
        Draft202012Validator({"$id": "urn:api", "components": DOCUMENT["components"], **schema}).validate(example)


class Page(HTMLParser):
    """Collects the resources that a page loads, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            elif tag == "a" and name == "href":
                self.links.add(value or "")
            elif name in {"src", "href", "style", "action"} or name.startswith("on"):
                self.loaded.append(f"{tag} {name}")


def test_the_page_shows_the_whole_document_and_loads_nothing(api: FlaskClient) -> None:
    response = api.get("/docs")
    page = Page()
    page.feed(response.text)
    assert not page.loaded
    assert not page.tags & {"script", "img", "link", "iframe", "form", "object"}
    assert page.links <= {f"#{name}" for name in page.ids} | {"openapi.json"}
    operations = {
        each.get("operationId")
        for methods in DOCUMENT["paths"].values()
        for each in dict(methods).values()
        if isinstance(each, dict)
    }
    assert operations | set(SCHEMAS) == page.ids
    for code in SCHEMAS["ErrorCode"]["enum"]:
        assert code in response.text
    for each in re.findall(r"curl .*", response.text):
        assert ("Authorization" in each) == ("-X DELETE" in each), each
    policy = response.headers["Content-Security-Policy"]
    style = response.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "`" not in response.text
