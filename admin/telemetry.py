"""`/metrics`: the API's own requests and latencies."""

import platform
import re
import time

from flask import Blueprint, Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from amp_workers.metadata_db import Thresholds
from amp_workers.web import exposition_format

_VARIABLE = re.compile("<[^>]*>")
"""Flask's notation of a node id in a route. A label has OpenAPI's, as `/openapi.json` does."""


def telemetry(app: Flask, version: str, thresholds: Thresholds, registry: CollectorRegistry) -> Blueprint:
    """Count and time the application's requests in a registry, and return the route that serves it."""
    build = Gauge(
        "amp_admin_build_info",
        "The Admin API's own version. Always 1.",
        ["version", "python_version"],
        registry=registry,
    )
    build.labels(version, platform.python_version()).set(1)
    requests = Counter(
        "amp_admin_requests_total",
        "Requests that the Admin API answered, by route, method and status.",
        ["route", "method", "status"],
        registry=registry,
    )
    seconds = Histogram(
        "amp_admin_request_duration_seconds",
        "Time from a request's arrival to its answer, by route.",
        ["route"],
        registry=registry,
    )
    threshold_seconds = Gauge(
        "amp_admin_threshold_seconds",
        "The thresholds of worker states that the Admin API runs with; the exporter's should be the same.",
        ["threshold"],
        registry=registry,
    )
    for name, value in (
        ("stale", thresholds.stale_after),
        ("lost", thresholds.lost_after),
        ("forget", thresholds.forget_after),
    ):
        threshold_seconds.labels(name).set(value)
    blueprint = Blueprint("telemetry", __name__)

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        # The route instead of the path, and only known methods: a client must not be able to create series.
        route = _VARIABLE.sub("{id}", request.url_rule.rule) if request.url_rule is not None else "none"
        method = request.method if request.method in {"GET", "HEAD", "DELETE"} else "other"
        requests.labels(route, method, str(response.status_code)).inc()
        seconds.labels(route).observe(time.perf_counter() - g.started)
        return response

    @blueprint.get("/metrics")
    def metrics() -> Response:
        encode, content_type = exposition_format(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    return blueprint
