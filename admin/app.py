"""The Admin API as a Flask application."""

from functools import partial

from flask import Flask
from prometheus_client import CollectorRegistry

from amp_workers.admin.converters import CONVERTERS
from amp_workers.admin.docs import docs
from amp_workers.admin.errors import register_errors
from amp_workers.admin.fleet import fleet
from amp_workers.admin.http_headers import register_http_headers
from amp_workers.admin.jobs import jobs
from amp_workers.admin.openapi import description, openapi
from amp_workers.admin.page.routes import page
from amp_workers.admin.telemetry import telemetry
from amp_workers.admin.workers import workers
from amp_workers.metadata_db import Forgetter, JobsLog, MetadataDbUrl, Reader, Thresholds
from amp_workers.web import health, server_registry

CONNECTIONS = 4
QUERY_TIMEOUT_SECONDS = 5.0


def create_app(
    url: MetadataDbUrl,
    thresholds: Thresholds,
    version: str,
    registry: CollectorRegistry | None = None,
    *,
    grafana_url: str | None = None,
) -> Flask:
    """Return the API over one metadata DB, which may be unavailable: the answers show it.

    version: of this program. registry: of the server's own metrics; a new one by default.
    grafana_url: for the links of the fleet page.
    """
    reader = Reader(url, "ampd admin", connections=CONNECTIONS, statement_timeout=QUERY_TIMEOUT_SECONDS)
    forgetter = Forgetter(url, "ampd admin", statement_timeout=QUERY_TIMEOUT_SECONDS)
    app = Flask("amp_workers.admin", static_folder=None)
    # Werkzeug would redirect a path with two slashes. Here it holds an invalid node id, which is an error.
    app.url_map.merge_slashes = False
    # /openapi.json describes the methods, so OPTIONS is not allowed.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.converters.update(CONVERTERS)
    register_errors(app)
    register_http_headers(app)
    app.register_blueprint(health(partial(reader.check, QUERY_TIMEOUT_SECONDS), lambda: reader.replay_lag.warning))
    jobs_log = JobsLog()
    app.register_blueprint(workers(reader, forgetter, thresholds, QUERY_TIMEOUT_SECONDS, jobs_log))
    app.register_blueprint(jobs(reader, thresholds, QUERY_TIMEOUT_SECONDS, jobs_log))
    app.register_blueprint(fleet(reader, thresholds, QUERY_TIMEOUT_SECONDS, jobs_log))
    app.register_blueprint(page(reader, thresholds, QUERY_TIMEOUT_SECONDS, jobs_log, grafana_url))
    document = description(version)
    app.register_blueprint(openapi(document))
    app.register_blueprint(docs(document))
    app.register_blueprint(telemetry(app, version, thresholds, registry or server_registry()))
    return app
