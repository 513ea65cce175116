"""The unfinished jobs of the whole fleet, joined with the states of their workers."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import chain, compress, repeat
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    not_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from amp_workers.metadata_db.amp_database import amp_database
from amp_workers.metadata_db.jobs import FATAL, SCHEDULED, STATUSES, bounded, jobs_status, unfinished_statuses
from amp_workers.metadata_db.node_hash import node_hash
from amp_workers.metadata_db.packed import microseconds, packed_integers, packed_moments, unpacked
from amp_workers.metadata_db.schema import (
    BOUND_CLOCK,
    STATES,
    State,
    constant,
    epoch,
    moment,
    state_number,
    workers,
)
from amp_workers.metadata_db.statement import Statement

OTHER = "other"
"""Stands for every status that this version does not know."""

MISSING = "missing"
"""Stands for the state of a worker that a job names and that has no row."""

STRANDED_WORKER_STATES = (State.LOST, State.FAILED, State.STOPPED, State.FORGOTTEN, MISSING)
"""The states of a worker whose jobs stand still until they are moved."""

_STRANDED_STATUSES = (SCHEDULED, "RUNNING", "ERROR")

MOST_STRANDED = 10
"""How many workers `Jobs.stranded_by_worker` names at most."""

StateGroup = tuple[str, Collection[int]]
"""A state, and the `node_hash` of each worker of a group that is in it."""


@dataclass(frozen=True, slots=True)
class StrandedOfWorker:
    """The stranded jobs of one worker."""

    node_id: str
    worker_state: str
    jobs: int


@dataclass(frozen=True, slots=True)
class Jobs:
    """The unfinished jobs of a fleet, in the snapshot of the fleet itself."""

    by_status: Mapping[str, int]
    """For each of STATUSES, FATAL and OTHER, in lower case, how many jobs have it; 0 included."""

    by_group: Sequence[Sequence[int]]
    """How many unfinished jobs each worker has, in the order of the groups and of the workers in them."""

    stranded: Mapping[str, int]
    """For each of STRANDED_WORKER_STATES, how many jobs stand still; 0 included."""

    stranded_by_worker: Sequence[StrandedOfWorker]
    """The workers with the most stranded jobs, at most MOST_STRANDED, most first."""

    oldest_not_picked_up_age_seconds: float | None
    """For how long the oldest job of an active worker has been SCHEDULED. None: there is none."""

    last_fatal_timestamp: float | None
    """When the last job became FATAL, as Unix time. None: there is none."""

    unknown_statuses: frozenset[str]
    """The statuses that count as OTHER."""

    @property
    def unfinished(self) -> int:
        """How many jobs there are that are not finished."""
        return sum(self.by_status.values()) - self.by_status[FATAL.lower()]


def read_jobs(connection: Connection, clock: Mapping[str, datetime]) -> Jobs | None:
    """Return the unfinished jobs of the fleet; None where the database is not Amp's own.

    clock: the parameters of BOUND_CLOCK, by which the workers' states are computed.

    Raises:
        JobsUnknown: Amp's tables or the right to read them are missing, or there was no answer in time.
    """

    def read_groups() -> list[StateGroup]:
        rows: Iterable[Sequence[Any]] = _select_workers().execute(connection, clock)
        return [(STATES[its_state], unpacked(node_hashes)) for its_state, node_hashes in rows]

    return read_jobs_of(connection, clock["now"], read_groups)


def read_jobs_of(
    connection: Connection, now: datetime, read_groups: Callable[[], Collection[StateGroup]]
) -> Jobs | None:
    """Return the unfinished jobs of a fleet, as `read_jobs` does, with states that are known already.

    now: when the workers had these states, by the database's clock. The transaction must have one snapshot.
    """
    if amp_database(connection) is None:
        return None
    with bounded(connection, "jobs_status"):
        groups = read_groups()
        statuses = unfinished_statuses(connection)
        # Amp writes no later moment: a FATAL far in the future would be the last one for ever.
        parameters = {"statuses": [*statuses, FATAL], "latest": now + timedelta(hours=1)}
        rows = {row.status: row for row in _select_jobs().execute(connection, parameters)}
        nodes = {status: unpacked(row.node_hashes) for status, row in rows.items()}
        by_node = Counter(chain.from_iterable(nodes.values()))
        by_group = [list(map(by_node.get, node_hashes, repeat(0))) for _, node_hashes in groups]
        gone = _gone(by_node, groups, by_group)
        in_stranded_statuses = chain.from_iterable(nodes.get(status, ()) for status in _STRANDED_STATUSES)
        stranded_by_node = Counter(filter(gone.__contains__, in_stranded_statuses))
        most_stranded = _read_most_stranded(connection, stranded_by_node)
    stranded = Counter[str]()
    for node, jobs in stranded_by_node.items():
        stranded[gone[node]] += jobs
    counts = {status: row.jobs for status, row in rows.items()}
    unknown_statuses = frozenset(statuses) - frozenset(STATUSES)
    fatal, scheduled = rows.get(FATAL), rows.get(SCHEDULED)
    oldest = None
    if scheduled is not None:
        active = _active(groups, by_group)
        since = zip(nodes[SCHEDULED], unpacked(scheduled.since), strict=True)
        oldest = min((at for node, at in since if node in active), default=None)
    return Jobs(
        by_status={
            **{status.lower(): counts.get(status, 0) for status in (*STATUSES, FATAL)},
            OTHER: sum(counts[status] for status in unknown_statuses),
        },
        by_group=by_group,
        stranded={its_state: stranded[its_state] for its_state in STRANDED_WORKER_STATES},
        stranded_by_worker=[StrandedOfWorker(node_id, gone[node], jobs) for node, node_id, jobs in most_stranded],
        oldest_not_picked_up_age_seconds=None if oldest is None else (microseconds(now) - oldest) / 1e6,
        last_fatal_timestamp=None if fatal is None else fatal.last,
        unknown_statuses=unknown_statuses,
    )


def _gone(
    by_node: Mapping[int, int], groups: Collection[StateGroup], by_group: Sequence[Sequence[int]]
) -> dict[int, str]:
    """Return the nodes with jobs whose worker is in one of STRANDED_WORKER_STATES, and that state."""
    gone: dict[int, str] = {}
    with_row = 0
    for (its_state, node_hashes), counts in zip(groups, by_group, strict=True):
        with_row += len(counts) - counts.count(0)
        if its_state in STRANDED_WORKER_STATES:
            gone |= dict.fromkeys(compress(node_hashes, counts), its_state)
    if with_row < len(by_node):
        missing = set(by_node).difference(*(node_hashes for _, node_hashes in groups))
        gone |= dict.fromkeys(missing, MISSING)
    return gone


def _active(groups: Collection[StateGroup], by_group: Sequence[Sequence[int]]) -> set[int]:
    """Return the nodes with jobs whose worker is active."""
    nodes = (
        compress(node_hashes, counts)
        for (its_state, node_hashes), counts in zip(groups, by_group, strict=True)
        if its_state == State.ACTIVE
    )
    return set(chain.from_iterable(nodes))


def _read_most_stranded(connection: Connection, nodes: Collection[int]) -> Sequence[tuple[int, str, int]]:
    """Return those of the nodes with stranded jobs that have the most, with their node ids and numbers of jobs."""
    if not nodes:
        return []
    # As one text: psycopg takes longer to send 50,000 numbers than PostgreSQL takes to find their jobs.
    rows = _select_most_stranded().execute(connection, {"nodes": f"{{{','.join(map(str, nodes))}}}"})
    return [(row.node, row.node_id, row.jobs) for row in rows]


@cache
def _select_workers() -> Statement:
    """A row for each state of a worker."""
    its_state = state_number(BOUND_CLOCK)
    return Statement(select(its_state, packed_integers(node_hash(workers.c.node_id))).group_by(its_state))


@cache
def _select_jobs() -> Statement:
    """A row for each of `statuses` that a job has."""
    status, updated_at = jobs_status.c.status, moment(jobs_status.c.updated_at)
    latest = bindparam("latest", None, DateTime(timezone=True))
    is_fatal, is_scheduled = status == constant(FATAL), status == constant(SCHEDULED)
    return Statement(
        select(
            status,
            func.count().label("jobs"),
            packed_integers(node_hash(jobs_status.c.node_id)).filter(not_(is_fatal)).label("node_hashes"),
            packed_moments(updated_at).filter(is_scheduled).label("since"),
            epoch(func.max(updated_at).filter(is_fatal, updated_at <= latest)).label("last"),
        )
        .where(status == any_(bindparam("statuses", None, ARRAY(Text))))
        .group_by(status)
    )


@cache
def _select_most_stranded() -> Statement:
    """A row for each node id; of those with as many jobs, the first ones by node id, byte by byte."""
    node, node_id = node_hash(jobs_status.c.node_id), func.coalesce(jobs_status.c.node_id, text("''"))
    jobs = func.count().label("jobs")
    return Statement(
        select(node.label("node"), node_id.label("node_id"), jobs)
        .where(
            jobs_status.c.status.in_([constant(status) for status in _STRANDED_STATUSES]),
            node.in_(select(func.unnest(cast(bindparam("nodes", None, Text), ARRAY(BigInteger))))),
        )
        .group_by(node, node_id)
        .order_by(jobs.desc(), node_id.collate("C"))
        .limit(literal_column(f"{MOST_STRANDED}"))
    )
