"""The exporter as a Flask application."""

import platform
from functools import partial

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy import Connection
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from amp_workers.exporter.exposition import expose
from amp_workers.exporter.families import BUILD_INFO, THRESHOLD
from amp_workers.exporter.landing import landing
from amp_workers.exporter.scrape import Scraper
from amp_workers.metadata_db import (
    UNHEALTHY,
    Fleet,
    JobsLog,
    KeptDetails,
    MetadataDbError,
    MetadataDbUrl,
    Reader,
    State,
    Thresholds,
    read_fleet,
)
from amp_workers.web import compress, health, server_registry

CONNECTIONS = 2
"""At most, ever: one for the scrapes, one for `/-/ready`."""

DEFAULT_TIMEOUT_SECONDS = 5.0
_TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

_TIMEOUT_SHARE = 0.8
"""Of what Prometheus waits: the rest is for rendering and for the way."""

MEMBER_STATES = {
    "all": frozenset(State) - {State.FORGOTTEN},
    "unhealthy": frozenset(UNHEALTHY),
    "none": frozenset[State](),
}
"""Which workers have series of their own, by the value of --collector.workers."""


def create_app(
    url: MetadataDbUrl,
    thresholds: Thresholds,
    collect_workers: str,
    telemetry_path: str,
    version: str,
    registry: CollectorRegistry | None = None,
) -> Flask:
    """Return the exporter over one metadata DB, which may be unavailable: the answers show it.

    registry: of the server's own metrics; a new one by default.
    """
    reader = Reader(url, "ampd exporter", connections=CONNECTIONS, statement_timeout=60.0)
    own = registry or server_registry()
    build = Gauge(BUILD_INFO.name, BUILD_INFO.help, BUILD_INFO.labels, registry=own)
    build.labels(version, platform.python_version()).set(1)

    threshold = Gauge(THRESHOLD.name, THRESHOLD.help, THRESHOLD.labels, registry=own)
    threshold.labels("stale").set(thresholds.stale_after)
    threshold.labels("lost").set(thresholds.lost_after)
    threshold.labels("forget").set(thresholds.forget_after)

    states = MEMBER_STATES[collect_workers]

    jobs_log = JobsLog()

    def read(kept: KeptDetails, seconds: float) -> tuple[Fleet, float | None]:
        def run(connection: Connection) -> Fleet:
            return read_fleet(connection, thresholds, states, kept, jobs_log)

        return reader.query(run, seconds), reader.replay_lag.seconds

    scraper = Scraper(read, own)
    app = Flask("amp_workers.exporter", static_folder=None)
    app.register_blueprint(health(partial(reader.check, DEFAULT_TIMEOUT_SECONDS), lambda: reader.replay_lag.warning))
    app.register_blueprint(landing(telemetry_path, version))

    @app.get(telemetry_path)
    def metrics() -> Response:
        scrape = scraper.scrape(_timeout(request.headers.get(_TIMEOUT_HEADER)))
        names = request.args.getlist("name[]") or None
        exposition = expose(scrape.fleet, scrape.workers, own, request.headers.get("Accept", ""), names)
        packed = request.accept_encodings["gzip"] > 0
        pieces = compress(exposition.pieces) if packed else exposition.pieces
        response = Response(pieces, content_type=exposition.content_type)
        if packed:
            response.content_encoding = "gzip"
        response.vary.update(("Accept", "Accept-Encoding"))
        return response

    @app.errorhandler(MetadataDbError)
    def not_ready(error: MetadataDbError) -> Response:
        return Response(f"{error}\n", 503, content_type="text/plain; charset=utf-8")

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> WerkzeugResponse:
        response = error.get_response()
        response.data = f"{error.description or error.name}\n"
        response.content_type = "text/plain; charset=utf-8"
        return response

    return app


def _timeout(header: str | None) -> float:
    """Return how long a scrape may ask the metadata DB, in seconds."""
    try:
        seconds = float(header) if header is not None else DEFAULT_TIMEOUT_SECONDS
    except ValueError:
        seconds = DEFAULT_TIMEOUT_SECONDS
    return _TIMEOUT_SHARE * (seconds if 0 < seconds < 3600 else DEFAULT_TIMEOUT_SECONDS)
