"""Every worker and all unfinished jobs in one read, for a page that filters and sorts by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from amp_workers.metadata_db.fleet_jobs import Jobs, read_jobs
from amp_workers.metadata_db.jobs import JobsLog
from amp_workers.metadata_db.schema import Thresholds, clock_at, shown
from amp_workers.metadata_db.worker_jobs import count_jobs
from amp_workers.metadata_db.workers import Worker, list_workers


@dataclass(frozen=True, slots=True)
class Listing:
    """The fleet at one moment of the database's clock."""

    read_at: str
    """That moment, as a worker's are written."""

    workers: Sequence[Worker]
    """By node id, byte by byte."""

    jobs: Jobs | None
    """None where they are unknown."""

    jobs_by_node_id: Mapping[str, int]
    """How many unfinished jobs each node id has that has any, with a worker or without."""


def read_listing(connection: Connection, thresholds: Thresholds, jobs_log: JobsLog) -> Listing:
    """Read the workers, each with the number of its unfinished jobs, and the jobs where that is possible."""
    now, read_at = connection.execute(select(func.clock_timestamp().label("now"), shown(func.clock_timestamp()))).one()
    workers = list_workers(connection, thresholds)
    # Last: where jobs cannot be read, the workers can.
    jobs, counts = None, None
    with jobs_log.suppressing():
        jobs, counts = read_jobs(connection, clock_at(now, thresholds)), count_jobs(connection)
    if jobs is None or counts is None:
        return Listing(read_at, workers, None, {})
    jobs_log.note_statuses(jobs.unknown_statuses)
    for worker in workers:
        worker["jobs"] = counts.get(worker["node_id"], 0)
    return Listing(read_at, workers, jobs, counts)
