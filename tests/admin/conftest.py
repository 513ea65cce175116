"""The Admin API in this process. Each response is checked against the OpenAPI description."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient

from amp_workers.admin import create_app
from amp_workers.metadata_db import DEFAULT_THRESHOLDS, MetadataDbUrl, Thresholds
from tests.admin.contract import assert_described

Api = Callable[..., FlaskClient]


@pytest.fixture
def make_api() -> Iterator[Api]:
    """Make a client: `make_api(url, user="ann")` is an authenticated one."""
    problems: list[str] = []

    def make(
        url: str,
        user: str | None = None,
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
        grafana_url: str | None = None,
    ) -> FlaskClient:
        app = create_app(MetadataDbUrl.parse(url), thresholds, "unknown", grafana_url=grafana_url)
        _look_at_every_answer(app, problems)
        client = app.test_client()
        if user is not None:
            client.environ_base["REMOTE_USER"] = user
        return client

    yield make
    assert not problems


def _look_at_every_answer(app: Flask, problems: list[str]) -> None:
    def look(response: Response) -> Response:
        body = response.get_data()
        if response.content_encoding != "gzip":
            try:
                assert_described(request.method, request.path, response.status_code, dict(response.headers), body)
            except AssertionError as error:
                problems.append(str(error))
        return response

    # Flask calls these handlers in reverse order: the first of the list sees the response that is sent.
    app.after_request_funcs[None].insert(0, look)


@pytest.fixture
def api(make_api: Api, database: str) -> FlaskClient:
    """A client without credentials."""
    return make_api(database)


@pytest.fixture
def operator(make_api: Api, database: str) -> FlaskClient:
    """A client that is authenticated as `ann`."""
    return make_api(database, user="ann")


@pytest.fixture
def api_without_database(make_api: Api) -> FlaskClient:
    return make_api("postgresql://u:hunter2@127.0.0.1:1/d")
