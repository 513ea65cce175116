"""The whole fleet at one moment, for the exporter, and only what has changed of it since the last scrape.

Between two scrapes of 100,000 workers, all of them send heartbeats, but few register, stop or become stale. The workers
are read in groups, each of up to a thousand in the same state. A group has the heartbeats and the progress of its
workers, which are new in each scrape, and a fingerprint of everything else. The details behind a fingerprint are read
only for groups that are new or have changed, in the same snapshot.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from amp_workers.metadata_db.engine import transaction
from amp_workers.metadata_db.fleet_details import KeptDetails, read_details
from amp_workers.metadata_db.fleet_groups import Group, read_groups
from amp_workers.metadata_db.fleet_jobs import Jobs, read_jobs_of
from amp_workers.metadata_db.jobs import JobsLog
from amp_workers.metadata_db.schema import Thresholds, clock_at

# A REPEATABLE READ transaction takes its snapshot with its first query, even if that then waits for the table's lock:
# it would show the heartbeats of before with the age of after. LOCK TABLE waits without taking a snapshot.
_ONE_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

# PostgreSQL cannot know that many ids fall into few groups. It would sort all rows to group them, in one process. With
# less memory, it would write the groups of a fleet that reports progress to disk.
_LOCK_AND_PLAN = (
    "LOCK TABLE workers IN ACCESS SHARE MODE; SET LOCAL enable_sort = off; SET LOCAL parallel_tuple_cost = 0; "
    "SET LOCAL work_mem = '64MB'"
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The fleet at one moment."""

    groups: Sequence[Group]
    jobs: Jobs | None
    """None where they are unknown."""


def read_fleet(
    connection: Connection,
    thresholds: Thresholds,
    member_states: Collection[str],
    kept: KeptDetails,
    jobs_log: JobsLog,
) -> Fleet:
    """Return the fleet, from one snapshot and one reading of the database's clock.

    member_states: the states whose workers are read one by one. kept: gets the details of each group whose fingerprint
    has changed. jobs_log: logs why jobs are unknown.
    """
    with transaction(connection, _ONE_SNAPSHOT, _LOCK_AND_PLAN):
        clock = clock_at(connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one(), thresholds)
        groups = read_groups(connection, clock, member_states)
        changed = [group for group in groups if kept.fingerprint(group.key) != group.fingerprint]
        read_details(connection, clock, changed, member_states, kept)
        jobs = None
        with jobs_log.suppressing():
            jobs = read_jobs_of(
                connection, clock["now"], lambda: [(group.state, kept.node_hashes(group.key)) for group in groups]
            )
        if jobs is not None:
            jobs_log.note_statuses(jobs.unknown_statuses)
    return Fleet(groups, jobs)
