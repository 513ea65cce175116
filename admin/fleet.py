"""`GET /fleet`: the counts of the whole fleet."""

from typing import Any

from flask import Blueprint, Response, request

from amp_workers.admin.json_body import json_response
from amp_workers.admin.parameters import no_parameters
from amp_workers.metadata_db import FleetCounts, Jobs, JobsLog, Reader, SingleFlight, Thresholds, count_fleet


def fleet(reader: Reader, thresholds: Thresholds, timeout_seconds: float, jobs_log: JobsLog) -> Blueprint:
    """Return the route. Requests that arrive while a query runs share it: it reads every row."""
    blueprint = Blueprint("fleet", __name__)
    shared = SingleFlight[FleetCounts]()

    def count() -> FleetCounts:
        return reader.query(lambda connection: count_fleet(connection, thresholds, jobs_log), timeout_seconds)

    @blueprint.get("/fleet")
    def get_fleet() -> Response:
        no_parameters(request.args)
        counts = shared.run(count)
        return json_response(
            {
                "workers": counts.states,
                "versions": counts.versions,
                "oldest_heartbeat_age_seconds": counts.oldest_heartbeat_age,
                "jobs": None if counts.jobs is None else _jobs_body(counts.jobs),
                "thresholds": {
                    "stale_after_seconds": thresholds.stale_after,
                    "lost_after_seconds": thresholds.lost_after,
                    "forget_after_seconds": thresholds.forget_after,
                },
            }
        )

    return blueprint


def _jobs_body(jobs: Jobs) -> dict[str, Any]:
    return {
        "status": jobs.by_status,
        "stranded": {str(state): number for state, number in jobs.stranded.items()},
        "oldest_not_picked_up_age_seconds": jobs.oldest_not_picked_up_age_seconds,
    }
