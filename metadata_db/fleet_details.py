"""What is behind the fingerprint of a group of workers."""

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Text,
    any_,
    bindparam,
    case,
    cast,
    column,
    extract,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from amp_workers.metadata_db.fleet_groups import Group
from amp_workers.metadata_db.fleet_key import GROUP_BITS, GROUP_SIZE, Key, group_number
from amp_workers.metadata_db.node_hash import node_hash
from amp_workers.metadata_db.packed import packed_integers, unpacked
from amp_workers.metadata_db.schema import (
    BOUND_CLOCK,
    INFO_KEYS,
    RUNNING,
    STATES,
    State,
    constant,
    exit_code,
    failure,
    info_text,
    moment,
    state_number,
    stopped_at,
    watchdog_seconds,
    workers,
)
from amp_workers.metadata_db.statement import Statement

LABEL_LENGTH = 200
"""Characters of an `info` field that are read: any client may write it, and it may be a megabyte."""

_BATCH_WORKERS = 8 * GROUP_SIZE
"""Of which the details are read together."""


@dataclass(frozen=True, slots=True)
class Members:
    """The workers of a group, without their heartbeats, column by column: one object a worker takes longer to make.

    A text has one value for each worker, separated by spaces; an empty one stands for a worker without the value.
    Moments are Unix times.
    """

    node_ids: Sequence[str]
    registered_at: str
    created_at: str
    stopped_at: str
    exit_codes: str
    watchdog_seconds: str
    failures: Sequence[str | None]
    builds: Sequence[tuple[str, ...]]
    """`version`, `commit_sha`, `commit_timestamp` and `build_date` of each, `unknown` where it is absent."""


@dataclass(frozen=True, slots=True)
class Details:
    """What is behind a group's fingerprint."""

    versions: Mapping[str, int]
    """How many workers of the group there are of each version."""

    node_hashes: Collection[int]
    """The `node_hash` of each worker; in the order of the members, if there are any."""

    members: Members | None
    """None in a state whose members are not read."""


class KeptDetails(Protocol):
    """What a caller keeps of the details from one read to the next."""

    def fingerprint(self, key: Key) -> str | None:
        """Return the fingerprint with which a group's details were kept."""

    def node_hashes(self, key: Key) -> Collection[int]:
        """Return those of a group whose details are kept."""

    def keep(self, group: Group, details: Details) -> None:
        """Called for one group after the other, so that the details of a large fleet are never all in memory."""


def read_details(
    connection: Connection,
    clock: Mapping[str, datetime],
    groups: Sequence[Group],
    member_states: Collection[str],
    kept: KeptDetails,
) -> None:
    """Read the details of groups. clock: the parameters of BOUND_CLOCK with which the groups were read."""
    with_members = [group for group in groups if group.state in member_states]
    for batch in _batches(with_members):
        _read_members(connection, clock, batch, kept)
    others = [group for group in groups if group.state not in member_states]
    if others:
        _read_others(connection, clock, others, kept)


def _read_members(
    connection: Connection, clock: Mapping[str, datetime], groups: Sequence[Group], kept: KeptDetails
) -> None:
    wanted = {group.key: group for group in groups}
    keys = {
        "numbers": sorted({number for number, _ in wanted}),
        "states": [STATES.index(State(its_state)) for _, its_state in wanted],
    }
    for row in _select_members().execute(connection, {**clock, **keys}):
        group = wanted.get((row.number, STATES[row.state]))
        if group is not None:
            kept.keep(group, _details(row))


def _details(row: Row[Any]) -> Details:
    builds = zip(*(getattr(row, key) for key in INFO_KEYS), strict=True)
    members = Members(
        node_ids=row.node_id,
        registered_at=row.registered_at,
        created_at=row.created_at,
        stopped_at=row.stopped_at,
        exit_codes=row.exit_code,
        watchdog_seconds=row.watchdog_seconds,
        failures=row.failure,
        builds=list(builds),
    )
    return Details(Counter(row.version), array("q", unpacked(row.node_hashes)), members)


def _batches(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Return groups that are read together: few where they are full, many where each has few workers."""
    batch: list[Group] = []
    for group in groups:
        if batch and sum(each.workers for each in batch) + group.workers > _BATCH_WORKERS:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


@cache
def _select_members() -> Statement:
    """A row for each group of `numbers` that is in one of `states`, its members in the order of their ids."""
    wanted = (
        func.unnest(bindparam("numbers", None, ARRAY(BigInteger)))
        .table_valued(column("number", BigInteger), name="wanted")
        .render_derived()
    )
    first = wanted.c.number.op("<<")(constant(GROUP_BITS))
    texts = {
        "registered_at": _unix_time(moment(workers.c.registered_at)),
        "created_at": _unix_time(moment(workers.c.created_at)),
        "stopped_at": _unix_time(stopped_at()),
        "exit_code": cast(exit_code(), Text),
        "watchdog_seconds": cast(watchdog_seconds(), Text),
    }
    arrays = {
        "node_id": workers.c.node_id,
        "failure": failure(),
        **{key: func.left(info_text(key), LABEL_LENGTH) for key in INFO_KEYS},
    }
    each = (
        select(
            wanted.c.number,
            state_number(BOUND_CLOCK).label("state"),
            node_hash(workers.c.node_id).label("node_hash"),
            *(value.label(name) for name, value in (texts | arrays).items()),
        )
        .join_from(wanted, workers, workers.c.id.between(first, first + constant(GROUP_SIZE - 1)))
        .where(state_number(BOUND_CLOCK) == any_(bindparam("states", None, ARRAY(Integer))))
        .order_by(wanted.c.number, text("state"), workers.c.id)
        .subquery("worker")
    )
    return Statement(
        select(
            each.c.number,
            each.c.state,
            packed_integers(each.c.node_hash).label("node_hashes"),
            *(func.string_agg(func.coalesce(each.c[name], constant("")), constant(" ")).label(name) for name in texts),
            *(func.array_agg(each.c[name]).label(name) for name in arrays),
        ).group_by(each.c.number, each.c.state)
    )


def _read_others(
    connection: Connection, clock: Mapping[str, datetime], groups: Sequence[Group], kept: KeptDetails
) -> None:
    """Read the details of groups whose members are not read."""
    versions: dict[Key, dict[str, int]] = {group.key: {} for group in groups}
    node_hashes = {group.key: array("q") for group in groups}
    numbers = sorted({group.number for group in groups})
    for row in _select_versions().execute(connection, {**clock, "numbers": numbers}):
        key = row.number, STATES[row.state]
        if key in versions:
            node_hashes[key].extend(unpacked(row.node_hashes))
            if row.version is not None:
                versions[key][row.version] = row.workers
    for group in groups:
        kept.keep(group, Details(versions[group.key], node_hashes[group.key], None))


@cache
def _select_versions() -> Statement:
    """A row for each version of the running workers of a group, and one for all workers of another group."""
    worker = (
        select(
            group_number().label("number"),
            state_number(BOUND_CLOCK).label("state"),
            func.left(info_text("version"), LABEL_LENGTH).label("version"),
            node_hash(workers.c.node_id).label("node_hash"),
        )
        .where(group_number() == any_(bindparam("numbers", None, ARRAY(BigInteger))))
        .subquery("worker")
    )
    is_running = worker.c.state.in_([constant(STATES.index(each)) for each in RUNNING])
    version = case((is_running, worker.c.version), else_=None)
    return Statement(
        select(
            worker.c.number,
            worker.c.state,
            version.label("version"),
            func.count().label("workers"),
            packed_integers(worker.c.node_hash).label("node_hashes"),
        ).group_by(worker.c.number, worker.c.state, version)
    )


def _unix_time(when: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(extract("epoch", when), Text)
