"""How many workers the fleet has, by state and by version: one row a group, for a fleet of any size."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, true

from amp_workers.metadata_db.fleet_details import LABEL_LENGTH
from amp_workers.metadata_db.fleet_jobs import Jobs, read_jobs
from amp_workers.metadata_db.jobs import JobsLog
from amp_workers.metadata_db.schema import (
    EXPECTED,
    RUNNING,
    STATES,
    Thresholds,
    clock_at,
    clock_of,
    clock_reading,
    epoch,
    info_text,
    moment,
    state_number,
    workers,
)


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """The fleet at one reading of the database's clock."""

    states: Mapping[str, int]
    """Every state, the worst first."""

    versions: Mapping[str, int]
    """Of the workers that run, the most frequent first."""

    oldest_heartbeat_age: float | None
    """Seconds, of the heartbeat that is furthest from now; negative where it lies in the future. None where no
    heartbeat is expected."""

    jobs: Jobs | None
    """None where they are unknown."""


def count_fleet(connection: Connection, thresholds: Thresholds, jobs_log: JobsLog) -> FleetCounts:
    """Count the workers in one query, and the jobs where that is possible."""
    reading = clock_reading(thresholds)
    clock = clock_of(reading)
    worker = (
        select(
            state_number(clock).label("state"),
            func.left(info_text("version"), LABEL_LENGTH).label("version"),
            workers.c.heartbeat_at,
            clock.now,
        )
        .select_from(workers.join(reading, true()))
        .subquery("worker")
    )
    groups = connection.execute(
        select(
            worker.c.state,
            worker.c.version,
            func.count().label("workers"),
            # The extremes, and not each age: one subtraction a group.
            epoch(func.max(worker.c.now) - moment(func.min(worker.c.heartbeat_at))).label("oldest"),
            epoch(func.max(worker.c.now) - moment(func.max(worker.c.heartbeat_at))).label("youngest"),
        ).group_by(worker.c.state, worker.c.version)
    ).all()
    states = {each.value: 0 for each in STATES}
    versions: dict[str, int] = {}
    ages: list[float] = []
    for group in groups:
        its_state = STATES[group.state]
        states[its_state.value] += group.workers
        if its_state in RUNNING:
            versions[group.version] = versions.get(group.version, 0) + group.workers
        if its_state in EXPECTED:
            ages += (group.youngest, group.oldest)
    by_count = sorted(versions.items(), key=lambda each: (-each[1], each[0]))
    # Last: where jobs cannot be read, the workers can.
    jobs = None
    with jobs_log.suppressing():
        now = connection.execute(select(func.clock_timestamp())).scalar_one()
        jobs = read_jobs(connection, clock_at(now, thresholds))
    if jobs is not None:
        jobs_log.note_statuses(jobs.unknown_statuses)
    return FleetCounts(states, dict(by_count), max(ages, key=abs, default=None), jobs)
