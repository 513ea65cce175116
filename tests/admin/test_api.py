import json
import platform
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.exceptions import HTTPException, ServiceUnavailable, TooManyRequests

from amp_workers.admin.errors import register_errors
from tests.admin.contract import assert_described
from tests.conftest import Insert
from tests.node_ids import INVALID, VALID
from tests.processes import ROOT, eventually


def error(response: Any) -> tuple[int, str]:
    assert response.content_type == "application/json"
    assert set(response.json) == {"error_code", "error_message"}
    assert "\n" not in response.json["error_message"]
    return response.status_code, response.json["error_code"]


def test_a_worker_has_the_documented_shape(api: FlaskClient, sql: Callable[..., list[Any]]) -> None:
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) VALUES ('w', %s, %s, %s, %s)",
        "2025-01-15T18:20:15.999999+01:00",
        json.dumps({"version": "v1", "commit_sha": None, "build_date": 7, "unknown key": "kept"}),
        "2025-01-01T12:00:00Z",
        "2025-01-15T16:45:30.5Z",
    )
    worker = api.get("/workers/w").json
    assert worker is not None
    age = worker.pop("heartbeat_age_seconds")
    assert age > 3600
    assert worker == {
        "node_id": "w",
        "state": "forgotten",
        "created_at": "2025-01-01T12:00:00Z",
        "registered_at": "2025-01-15T16:45:30Z",
        "heartbeat_at": "2025-01-15T17:20:15Z",
        "info": {"version": "v1", "commit_sha": "unknown", "commit_timestamp": "unknown", "build_date": "unknown"},
        **dict.fromkeys(("stopped_at", "exit_code", "failure", "progress", "progress_at", "jobs")),
    }
    listed = api.get("/workers").json
    assert listed is not None
    assert listed["workers"][0].pop("heartbeat_age_seconds") >= age
    assert listed == {"workers": [worker]}


def test_a_heartbeat_from_the_future_is_no_proof_of_life(api: FlaskClient, insert_worker: Insert) -> None:
    insert_worker("w", age=-3600)
    worker = api.get("/workers/w").json
    assert worker is not None
    assert worker["state"] == "lost"
    assert -3600 <= worker["heartbeat_age_seconds"] < -3590


def test_workers_are_ordered(api: FlaskClient, insert_worker: Insert) -> None:
    for node_id in ("b", "a", "C"):
        insert_worker(node_id)
    listed = api.get("/workers").json
    assert listed is not None
    assert [worker["node_id"] for worker in listed["workers"]] == ["C", "a", "b"]


def test_an_empty_fleet(api: FlaskClient) -> None:
    assert api.get("/workers").json == {"workers": []}


def test_an_unknown_node_id_is_not_found(api: FlaskClient) -> None:
    for node_id in VALID:
        assert error(api.get(f"/workers/{node_id}")) == (404, "WORKER_NOT_FOUND")


@pytest.mark.parametrize("node_id", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_node_id_is_a_bad_request(api_without_database: FlaskClient, node_id: str) -> None:
    assert error(api_without_database.get(f"/workers/{quote(node_id, safe='')}")) == (400, "INVALID_WORKER_ID")


@pytest.mark.parametrize("path", ["/w", "/worker", "/workersx", "/-/nothing", "/-//healthy", "/%0D%0Anothing"])
def test_a_path_that_does_not_exist(api_without_database: FlaskClient, path: str) -> None:
    assert error(api_without_database.get(path)) == (404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_a_method_that_is_not_allowed(api_without_database: FlaskClient, method: str) -> None:
    response = api_without_database.open("/workers", method=method)
    assert error(response) == (405, "METHOD_NOT_ALLOWED")
    assert "GET" in response.headers["Allow"]


def test_without_a_database_it_returns_503_and_stays_healthy(api_without_database: FlaskClient) -> None:
    for path in ("/workers", "/workers/w", "/-/ready"):
        response = api_without_database.get(path)
        assert error(response) == (503, "METADATA_DB_UNAVAILABLE")
        assert "hunter2" not in response.text
    assert api_without_database.get("/-/healthy").status_code == 200


def test_without_a_table_it_returns_the_remedy(api: FlaskClient, sql: Callable[..., list[Any]]) -> None:
    assert api.get("/-/ready").status_code == 200
    sql("DROP TABLE workers")
    response = api.get("/workers")
    assert error(response) == (503, "METADATA_DB_UNAVAILABLE")
    assert "ampd migrate" in response.json["error_message"]  # type: ignore[index] # json is None only for other types
    # The result of the previous check is cached for one second.
    eventually(lambda: error(api.get("/-/ready")) == (503, "METADATA_DB_UNAVAILABLE"))


def test_an_internal_error_is_logged_and_not_returned(
    api: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("amp_workers.admin.workers.get_worker", fail)
    response = api.get("/workers/w")
    assert error(response) == (500, "INTERNAL_ERROR")
    assert "hunter2" not in response.text
    assert "RuntimeError: hunter2" in caplog.text


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ServiceUnavailable(retry_after=1), "METADATA_DB_UNAVAILABLE"),
        (TooManyRequests(retry_after=1), "TOO_MANY_REQUESTS"),
    ],
)
def test_retry_after_is_kept(raised: HTTPException, code: str) -> None:
    app = Flask("test")
    register_errors(app)

    @app.get("/workers")
    def refuse() -> str:
        raise raised

    response = app.test_client().get("/workers")
    assert error(response) == (raised.code, code)
    assert response.headers["Retry-After"] == "1"
    assert_described("GET", "/workers", response.status_code, dict(response.headers), response.data)


def test_requests_are_counted_by_route_and_never_by_path(api: FlaskClient) -> None:
    for path in ("/workers", "/workers/a", "/workers/b", "/nothing/1", "/nothing/2"):
        api.get(path)
    api.open("/workers", method="BREW")
    lines = [line for line in api.get("/metrics").text.splitlines() if line.startswith("amp_admin_requests_total")]
    assert sorted(lines) == [
        'amp_admin_requests_total{method="GET",route="/workers",status="200"} 1.0',
        'amp_admin_requests_total{method="GET",route="/workers/{id}",status="404"} 2.0',
        'amp_admin_requests_total{method="GET",route="none",status="404"} 2.0',
        'amp_admin_requests_total{method="other",route="none",status="405"} 1.0',
    ]


def test_the_documented_families_are_those_of_the_metrics(api: FlaskClient) -> None:
    """docs/admin-api.md."""
    api.get("/workers")
    exposed = {
        (family.name + "_total" * (family.type == "counter"), family.type)
        for family in text_string_to_metric_families(api.get("/metrics").text)
        if family.name.startswith("amp_")
    }
    page = (ROOT / "docs" / "admin-api.md").read_text()
    assert exposed == set(re.findall(r"^\| `(amp_\w+)` \| (\w+)", page, re.M))


def test_the_metrics_have_the_version(api: FlaskClient) -> None:
    assert f'amp_admin_build_info{{python_version="{platform.python_version()}",version="unknown"}} 1.0' in (
        api.get("/metrics").text
    )
