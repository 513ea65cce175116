"""Any request and any row of the table get a response that the description has, never a 500."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from amp_workers.admin import create_app
from amp_workers.metadata_db import DEFAULT_THRESHOLDS, MetadataDbUrl
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.metadata_db.schema import INFO_KEYS
from amp_workers.web import Policy
from tests.admin.contract import DOCUMENT
from tests.conftest import fresh_database
from tests.web.wsgi import Behind

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]

FIXED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""The same examples in every run, without a deadline."""


Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

TOKEN = "the-token-of-an-operator"


@pytest.fixture(scope="module")
def lost_workers(postgres: EmbeddedPostgres) -> Iterator[MetadataDbUrl]:
    with fresh_database(postgres) as text:
        url = MetadataDbUrl.parse(text)
        with psycopg.connect(text, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) "
                "SELECT 'worker-0' || number, now() - interval '5 min', now(), now() FROM generate_series(0, 5) number"
            )
        yield url


def application(url: MetadataDbUrl, policy: Policy) -> Application:
    """An API as `web` serves it, with admission control."""
    app = Behind(create_app(url, DEFAULT_THRESHOLDS, "unknown"), policy)

    def unpacked(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.pop("HTTP_ACCEPT_ENCODING", None)  # schemathesis cannot decompress a response of a WSGI application
        return app(environ, start_response)

    return unpacked


@pytest.fixture(scope="module")
def open_application(lost_workers: MetadataDbUrl) -> Application:
    return application(lost_workers, Policy())


@pytest.fixture(scope="module")
def guarded_application(lost_workers: MetadataDbUrl) -> Application:
    return application(lost_workers, Policy(token=TOKEN))


def validate(case: Case[Any], application: Application, **headers: str) -> int:
    case.operation.schema.app = application  # for the additional requests of the checks
    # Which `after` is valid depends on `sort`, which OpenAPI cannot express.
    query = case.query or {}
    excluded: list[Any] = [positive_data_acceptance] if "after" in query and "sort" in query else []
    return case.call_and_validate(app=application, headers=headers, excluded_checks=excluded).status_code


operations = schemathesis.openapi.from_dict(DOCUMENT)


@operations.parametrize()
@seed(1)
@settings(FIXED, max_examples=50)
def test_a_client_without_authentication(case: Case[Any], open_application: Application) -> None:
    validate(case, open_application)


@operations.parametrize()
@seed(2)
@settings(FIXED, max_examples=50)
def test_a_client_with_valid_credentials(case: Case[Any], guarded_application: Application) -> None:
    assert validate(case, guarded_application, Authorization=f"Bearer {TOKEN}") != 401


@operations.parametrize()
@seed(6)
@settings(FIXED, max_examples=50)
def test_a_client_with_invalid_credentials(case: Case[Any], guarded_application: Application) -> None:
    status = validate(case, guarded_application)
    assert (status == 401) == (case.path not in {"/-/healthy", "/-/ready"})


def answers(api: FlaskClient, path: str, **headers: str) -> set[int]:
    """Return the status of every method at a path."""
    return {api.open(path, method=method, headers=headers).status_code for method in ("GET", "HEAD", "DELETE")}


@seed(3)
@settings(FIXED, max_examples=150)
@given(
    st.one_of(st.text(), st.binary(), st.from_regex(r"[a-zA-Z][a-zA-Z0-9_.-]{0,300}"), st.text("./%\\?#&;\0\r\n\u202e"))
)
def test_any_node_id(operator: FlaskClient, node_id: str | bytes) -> None:
    assert answers(operator, f"/workers/{quote(node_id, safe='')}") <= {400, 404}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*INFO_KEYS, "stopped_at"]), inner),
)
INFO = ANYTHING | st.dictionaries(st.sampled_from([*INFO_KEYS, "stopped_at"]), ANYTHING)


@seed(4)
@settings(FIXED, max_examples=150)
@given(INFO)
@example({"version": "\0"})
@example({"version": "\ud800"})
@example({"version": "\uffff\U0010ffff\u2028\x7f\x1b"})
@example({"version": "v" * 1_000_000, "\U0001f600": ["x"] * 100_000})
@example({"version": 1e308, "commit_sha": -0.0, "commit_timestamp": 10**1000, "build_date": True})
@example({"stopped_at": "9999-12-31T23:59:59.999999-15:59"})
def test_any_info(operator: FlaskClient, sql: Sql, info: Any) -> None:
    """Any jsonb. PostgreSQL refuses NUL and half surrogate pairs, and JSON has no NaN."""
    row = "INSERT INTO workers VALUES (DEFAULT, 'w', now(), %s, now(), now()) ON CONFLICT (node_id) DO UPDATE "
    with suppress(psycopg.DataError):
        sql(row + "SET info = excluded.info", json.dumps(info))
    if not sql("SELECT FROM workers"):
        return
    one, listed = operator.get("/workers/w").json, operator.get("/workers").json
    assert one is not None
    assert listed is not None
    assert set(one["info"]) == set(INFO_KEYS)
    assert [worker["info"] for worker in listed["workers"]] == [one["info"]]
    if len(one["info"]["version"]) < 1000:
        found = operator.get("/workers", query_string={"version": one["info"]["version"]}).json
        assert found is not None
        assert [worker["node_id"] for worker in found["workers"]] == ["w"]


def test_info_that_is_nested_deeply(operator: FlaskClient, sql: Sql) -> None:
    deep = "[" * 5000 + "]" * 5000
    info = f'{{"version": {deep}, "commit_sha": "c", "stopped_at": {deep}}}'
    sql("INSERT INTO workers VALUES (DEFAULT, 'w', now(), %s, now(), now())", info)
    worker = operator.get("/workers/w").json
    assert worker is not None
    assert (worker["state"], worker["info"]["version"], worker["info"]["commit_sha"]) == ("stopped", "unknown", "c")


NAMES = ["If-None-Match", "If-Match", "Accept", "Accept-Encoding", "Host", "Range", "Expect", "Cookie", "Remote-User"]
NAMES += ["Content-Type", "X-Forwarded-For", "Authorization", "Forwarded", "Upgrade", "If-Modified-Since", "Origin"]
VALUES = (
    st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"))
    | st.sampled_from(["*", 'W/"', "gzip;q=x", "text/plain; version=zz", "application/openmetrics-text; version=abc"])
    | st.from_regex(r"(application/openmetrics-text|text/plain) ?; ?version=[\x20-\xff]{0,20}", fullmatch=True)
)


@seed(5)
@settings(FIXED, max_examples=150)
@given(
    st.dictionaries(st.sampled_from(NAMES), VALUES), st.sampled_from(["/workers", "/workers/w", "/metrics", "/docs"])
)
@example({"Accept": "application/openmetrics-text; version=abc"}, "/metrics")
@example({"Accept": "text/plain; version=zz"}, "/metrics")
@example({"Accept": "application/openmetrics-text; version=1.0.0 foo"}, "/metrics")
@example({"Accept": "text/plain; version=" + "9" * 5000}, "/metrics")
def test_any_header(operator: FlaskClient, headers: dict[str, str], path: str) -> None:
    assert answers(operator, path, **headers) <= {200, 304, 404, 405}
