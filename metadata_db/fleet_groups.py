"""The groups of a fleet: what is new in each scrape, and a fingerprint of everything else."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, DateTime, bindparam, case, func, select, text

from amp_workers.metadata_db.fleet_key import Key, group_number
from amp_workers.metadata_db.packed import UNIX_EPOCH, microseconds, packed_integers, packed_moments, unpacked
from amp_workers.metadata_db.progress_ages import Ages, joined_moments, read_ages, usual_ages
from amp_workers.metadata_db.schema import (
    BOUND_CLOCK,
    EXPECTED,
    STATES,
    State,
    constant,
    info_hash,
    moment,
    state_number,
    stopped_at,
    workers,
    written_progress_at,
)
from amp_workers.metadata_db.statement import Statement

RECENT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Group:
    """Workers of neighbouring ids that are in the same state."""

    number: int
    state: str
    workers: int

    fingerprint: str
    """Changes when anything but a heartbeat or progress does: node ids, registrations, `info_hash`."""

    ages: Sequence[float]
    """The heartbeat ages in seconds; negative where the heartbeat lies in the future. In the order of `Members`, if
    there are any; empty in a state in which no heartbeat is expected."""

    heartbeats: Sequence[float]
    """The last heartbeats as Unix times, in the order of `Members`; empty in a state whose members are not read."""

    progress_ages: Ages
    """The seconds since each last reported progress, likewise."""

    failed_recently: int
    """How many of them failed at most RECENT_SECONDS from now."""

    @property
    def key(self) -> Key:
        return self.number, self.state


def read_groups(connection: Connection, clock: Mapping[str, datetime], member_states: Collection[str]) -> list[Group]:
    """Return the groups of the fleet. clock: the parameters of BOUND_CLOCK, read in the same snapshot."""
    now = clock["now"]
    distance = timedelta(seconds=RECENT_SECONDS)
    recent = {"recently_after": now - distance, "recently_before": now + distance}
    rows = _select_groups(frozenset(member_states)).execute(connection, {**clock, **recent})
    return list(_groups(rows.all(), connection, clock))


@lru_cache
def _select_groups(member_states: frozenset[str]) -> Statement:
    worker = select(
        workers.c.id,
        group_number().label("number"),
        state_number(BOUND_CLOCK).label("state"),
        moment(workers.c.heartbeat_at).label("heartbeat_at"),
        written_progress_at().label("progress_at"),
        stopped_at().label("stopped_at"),
        # Each hash is the seed of the next, and the id that of the first: neither two columns that are alike nor two
        # workers that are alike cancel each other out. A hash of the whole row takes a third longer.
        _hashed(workers.c.id).label("hash"),
    ).subquery("worker")
    is_member = _is_in(worker.c.state, member_states)
    has_heartbeats = _is_in(worker.c.state, {*member_states, *EXPECTED})
    # By distance: an end in the future would be recent for ever.
    after, before = (bindparam(f"recently_{name}", None, DateTime(timezone=True)) for name in ("after", "before"))
    failed_at = case((worker.c.state == _number(State.FAILED), worker.c.stopped_at), else_=None)
    return Statement(
        select(
            worker.c.number,
            worker.c.state,
            func.count().label("workers"),
            func.bit_xor(worker.c.hash).label("hash"),
            packed_integers(worker.c.id).filter(is_member).label("ids"),
            packed_moments(worker.c.heartbeat_at).filter(has_heartbeats).label("heartbeats"),
            joined_moments(worker.c.progress_at, is_member).label("progress_at"),
            func.count().filter(failed_at.between(after, before)).label("failed_recently"),
        ).group_by(worker.c.number, worker.c.state)
    )


def _hashed(seed: ColumnElement[int]) -> ColumnElement[int]:
    hashed = func.hashtextextended(workers.c.node_id, seed)
    for column in (workers.c.registered_at, workers.c.created_at):
        hashed = func.timestamp_hash_extended(func.timezone(text("'UTC'"), column), hashed)
    return info_hash(hashed)


def _groups(rows: Sequence[Any], connection: Connection, clock: Mapping[str, datetime]) -> Iterator[Group]:
    now, now_microseconds = clock["now"], microseconds(clock["now"])
    orders = [_order(row) for row in rows]
    usual = [usual_ages(row.progress_at or "", order, now) for row, order in zip(rows, orders, strict=True)]
    unusual = {(row.number, STATES[row.state]) for row, ages in zip(rows, usual, strict=True) if ages is None}
    exact = read_ages(connection, clock, unusual) if unusual else {}
    for row, order, ages in zip(rows, orders, usual, strict=True):
        state, has_members = STATES[row.state], row.ids is not None
        heartbeats: Sequence[int] = unpacked(row.heartbeats)
        heartbeats = [heartbeats[index] for index in order] if has_members else heartbeats
        yield Group(
            number=row.number,
            state=state,
            workers=row.workers,
            fingerprint=f"{row.workers} {row.hash}",
            ages=[(now_microseconds - each) / 1e6 for each in heartbeats] if state in EXPECTED else [],
            heartbeats=[(each + UNIX_EPOCH) / 1e6 for each in heartbeats] if has_members else [],
            progress_ages=exact[row.number, state] if ages is None else ages,
            failed_recently=row.failed_recently,
        )


def _order(row: Any) -> Sequence[int]:
    """Return the places of a group's workers in the order of their ids, where there are ids.

    PostgreSQL returns the rows in the order of the table, which changes with heartbeats.
    """
    return [] if row.ids is None else sorted(range(row.workers), key=unpacked(row.ids).__getitem__)


def _is_in(its_state: ColumnElement[int], states: Collection[str]) -> ColumnElement[bool]:
    # By the other states: where each worker has series of its own, that is one comparison instead of six.
    return its_state.not_in([_number(each) for each in STATES if each not in states])


def _number(state: str) -> ColumnElement[int]:
    return constant(STATES.index(State(state)))
