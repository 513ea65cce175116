"""Any request gets metrics, or a response that names the error, and never a 500."""

import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from amp_workers.exporter import create_app
from amp_workers.metadata_db import DEFAULT_THRESHOLDS, MetadataDbUrl
from amp_workers.web import Policy
from tests.web.wsgi import client

PATHS = ["/", "/metrics", "/metrics?name[]=amp_workers", "/-/healthy", "/nothing"]

NAMES = ["Accept", "Accept-Encoding", "Authorization", "Cookie", "Expect", "Host", "If-None-Match", "Range"]
NAMES += ["X-Prometheus-Scrape-Timeout-Seconds", "Content-Type", "X-Forwarded-For", "Remote-User", "Origin"]
VALUES = (
    st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"))
    | st.sampled_from(["*", "*/*", "nan", "-1", "1e400", "gzip;q=x", "Bearer x", "Basic ////"])
    | st.from_regex(r"(application/openmetrics-text|text/plain) ?; ?version=[\x20-\xff]{0,20}", fullmatch=True)
)


@pytest.fixture(scope="module")
def exporter() -> Client:
    """An exporter without a metadata DB, with the admission control of `web`."""
    url = MetadataDbUrl.parse("postgresql://u:hunter2@127.0.0.1:1/d")
    app = create_app(url, DEFAULT_THRESHOLDS, "all", "/metrics", "9.9.9")
    app.testing = False  # an exception becomes a response, as for a client
    return client(app, Policy())


@pytest.mark.slow
@seed(7)
@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.sampled_from(PATHS))
@example({"Accept": "application/openmetrics-text; version=abc"}, "/metrics")
@example({"Accept": "text/plain; version=zz"}, "/metrics")
@example({"Accept": "application/openmetrics-text; version=1.0.0 foo"}, "/metrics")
@example({"Accept": "text/plain; version=" + "9" * 5000}, "/metrics")
def test_any_header(exporter: Client, headers: dict[str, str], path: str) -> None:
    for method in ("GET", "HEAD", "POST"):
        assert exporter.open(path, method=method, headers=headers).status_code in {200, 400, 404, 405}
