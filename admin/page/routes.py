"""The routes of the fleet page."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from urllib.parse import quote

from flask import Blueprint, Response, request

from amp_workers.admin.errors import WorkerNotFound
from amp_workers.admin.page import view
from amp_workers.admin.page.document import show
from amp_workers.admin.page.query import Query
from amp_workers.admin.page.shared_fleet import REFRESH_SECONDS, Reading, SharedFleet
from amp_workers.admin.parameters import no_parameters
from amp_workers.metadata_db import (
    Job,
    JobsLog,
    MetadataDbError,
    Reader,
    SingleFlight,
    Thresholds,
    check_node_id,
    list_jobs,
    read_listing,
)

_MOST_JOBS = 200

_MOST_WORKERS_WITH_JOBS = 256
"""Whose jobs are shared among browsers."""

_JOBS_PATIENCE_SECONDS = 1.0

Jobs = Sequence[Job] | None
"""None where they are unknown."""


def page(
    reader: Reader, thresholds: Thresholds, timeout_seconds: float, jobs_log: JobsLog, grafana_url: str | None
) -> Blueprint:
    """Return the routes of the page. grafana_url: of the Grafana that has the dashboards; None for no links to it."""
    blueprint = Blueprint("page", __name__)
    fleet = SharedFleet(
        lambda: reader.query(lambda connection: read_listing(connection, thresholds, jobs_log), timeout_seconds)
    )

    @lru_cache(_MOST_WORKERS_WITH_JOBS)
    def jobs_flight(_node_id: str) -> SingleFlight[Jobs]:
        return SingleFlight[Jobs](REFRESH_SECONDS)

    def read_jobs(node_id: str) -> Jobs:
        return reader.query(lambda connection: list_jobs(connection, node_id, limit=_MOST_JOBS), _JOBS_PATIENCE_SECONDS)

    def answer(template: str, reading: Reading, **values: object) -> Response:
        return show(
            template,
            200 if reading.outage is None else 503,
            line=view.status_line(reading, reader.replay_lag.warning, thresholds),
            refresh=view.refresh_milliseconds(reading),
            grafana_url=grafana_url,
            **values,
        )

    @blueprint.get("/")
    def show_fleet() -> Response:
        query = Query.parse(request.args)
        reading = fleet.latest()
        return answer("fleet.html", reading, **view.fleet_view(reading, query))

    @blueprint.get("/w/<anything:node_id>")
    def show_worker(node_id: str) -> Response:
        no_parameters(request.args)
        reading = fleet.latest()
        known = reading.fleet
        has_jobs = known is not None and node_id in known.listing.jobs_by_node_id
        if known is None or not (node_id in known.by_node_id or has_jobs):
            check_node_id(node_id)
            if known is not None and reading.outage is None:
                raise WorkerNotFound(f"no worker has the node id '{node_id}'")
            return answer("worker.html", reading, node_id=node_id, quoted=quote(node_id, safe=""), worker=None)
        jobs: Jobs = None if known.listing.jobs is None or reading.outage is not None else ()
        if has_jobs and reading.outage is None:
            jobs = None
            with suppress(MetadataDbError), jobs_log.suppressing("job_events"):
                jobs = jobs_flight(node_id).run(partial(read_jobs, node_id))
        worker = view.worker_view(node_id, reading, jobs)
        return answer("worker.html", reading, node_id=node_id, quoted=quote(node_id, safe=""), worker=worker)

    return blueprint
