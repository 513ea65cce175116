"""The groups of a fleet: what is new in each scrape, and a fingerprint of everything else."""

import re
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, DateTime, bindparam, case, func, select, text

from amp_workers.metadata_db.schema import (
    BOUND_CLOCK,
    EXPECTED,
    PROGRESS_AT_LENGTH,
    STATES,
    State,
    constant,
    moment,
    progress_at_text,
    settled_info,
    state_number,
    stopped_at,
    workers,
)
from amp_workers.metadata_db.statement import Statement

GROUP_BITS = 10

GROUP_SIZE = 2**GROUP_BITS
"""Ids in a group: small, so that one worker that restarts has few others read again; large, so that there are few."""

Key = tuple[int, str]
"""A group: its number (the ids divided by GROUP_SIZE), and its state."""

RECENT_SECONDS = 3600.0

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL's: `timestamptz_send` returns the microseconds since then, in 8 bytes."""

_NO_PROGRESS = "-"
"""Stands for a moment in a text of moments. None of these begins with it."""

_MOMENT = f"{_NO_PROGRESS}|.{{{PROGRESS_AT_LENGTH}}}"

_UNIX_EPOCH = (_EPOCH - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Group:
    """Workers of neighbouring ids that are in the same state."""

    number: int
    state: str
    workers: int

    fingerprint: str
    """Changes when anything but a heartbeat or progress does: node ids, registrations, info."""

    ages: Sequence[float]
    """The heartbeat ages in seconds; negative where the heartbeat lies in the future. In the order of `Members`, if
    there are any; empty in a state in which no heartbeat is expected."""

    heartbeats: Sequence[float]
    """The last heartbeats as Unix times, in the order of `Members`; empty in a state whose members are not read."""

    progress_ages: Sequence[float | None]
    """The seconds since each last reported progress, likewise; None for one that did not. Empty where none did."""

    failed_recently: int
    """How many of them failed at most RECENT_SECONDS ago."""

    @property
    def key(self) -> Key:
        return self.number, self.state


def read_groups(connection: Connection, clock: Mapping[str, datetime], member_states: Collection[str]) -> list[Group]:
    """Return the groups of the fleet. clock: the parameters of BOUND_CLOCK, read in the same snapshot."""
    now = clock["now"]
    recent = {"recently_after": now - timedelta(seconds=RECENT_SECONDS)}
    rows = _select_groups(frozenset(member_states)).execute(connection, {**clock, **recent})
    return [_group(row, now) for row in rows]


@lru_cache
def _select_groups(member_states: frozenset[str]) -> Statement:
    worker = select(
        workers.c.id,
        group_number().label("number"),
        state_number(BOUND_CLOCK).label("state"),
        # PostgreSQL takes longer to write a moment as text than for all else here.
        func.timestamptz_send(moment(workers.c.heartbeat_at)).label("heartbeat"),
        progress_at_text().label("progress_at"),
        stopped_at().label("stopped_at"),
        # Each hash is the seed of the next, and the id that of the first: neither two columns that are alike nor two
        # workers that are alike cancel each other out. A hash of the whole row takes a third longer.
        _hashed(workers.c.id).label("hash"),
    ).subquery("worker")
    is_member = _is_in(worker.c.state, member_states)
    progress_at = func.coalesce(worker.c.progress_at, constant(_NO_PROGRESS))
    failed_at = case((worker.c.state == _number(State.FAILED), worker.c.stopped_at), else_=None)
    return Statement(
        select(
            worker.c.number,
            worker.c.state,
            func.count(),
            func.bit_xor(worker.c.hash).filter(worker.c.state != _number(State.FORGOTTEN)),
            _joined(func.int8send(worker.c.id)).filter(is_member),
            _joined(worker.c.heartbeat).filter(_is_in(worker.c.state, {*member_states, *EXPECTED})),
            func.string_agg(progress_at, constant("")).filter(is_member),
            func.count().filter(failed_at >= bindparam("recently_after", None, DateTime(timezone=True))),
        ).group_by(worker.c.number, worker.c.state)
    )


def _hashed(seed: ColumnElement[int]) -> ColumnElement[int]:
    hashed = func.hashtextextended(workers.c.node_id, seed)
    for column in (workers.c.registered_at, workers.c.created_at):
        hashed = func.timestamp_hash_extended(func.timezone(text("'UTC'"), column), hashed)
    return func.jsonb_hash_extended(settled_info(), hashed)


def _group(row: Sequence[Any], now: datetime) -> Group:
    number, its_state, count, hashed, ids, sent_at, progress_at, failed_recently = row
    state = STATES[its_state]
    heartbeats, progress_ages = _unpacked(sent_at), list[float | None]()
    if ids is not None:
        progress_ages = _progress_ages(progress_at, count, now)
        # In one order each time. PostgreSQL returns the rows in that of the table, which changes with each heartbeat.
        numbers = _unpacked(ids)
        order = sorted(range(count), key=numbers.__getitem__)
        heartbeats = [heartbeats[index] for index in order]
        progress_ages = [progress_ages[index] for index in order] if progress_ages else []
    microseconds = (now - _EPOCH) // timedelta(microseconds=1)
    return Group(
        number=number,
        state=state,
        workers=count,
        fingerprint=f"{count} {hashed}",
        ages=[(microseconds - each) / 1e6 for each in heartbeats] if state in EXPECTED else [],
        heartbeats=[(each + _UNIX_EPOCH) / 1e6 for each in heartbeats] if ids is not None else [],
        progress_ages=progress_ages,
        failed_recently=failed_recently,
    )


def _unpacked(integers: bytes | None) -> Sequence[int]:
    """Return the 8-byte integers that PostgreSQL has sent."""
    return () if integers is None else struct.unpack(f">{len(integers) // 8}q", integers)


def _progress_ages(moments: str, workers: int, now: datetime) -> list[float | None]:
    """Return the seconds since each of the moments, which are texts of one length or _NO_PROGRESS."""
    if len(moments) == workers * len(_NO_PROGRESS):
        return []
    here = now.replace(tzinfo=None)
    if len(moments) == workers * PROGRESS_AT_LENGTH:
        try:
            texts = [
                moments[start : start + PROGRESS_AT_LENGTH] for start in range(0, len(moments), PROGRESS_AT_LENGTH)
            ]
            return [(here - each).total_seconds() for each in map(datetime.fromisoformat, texts)]
        except ValueError:  # somebody else wrote one of them
            pass
    return [_progress_age(each, here) for each in re.findall(_MOMENT, moments, re.DOTALL)]


def _progress_age(moment: str, here: datetime) -> float | None:
    try:
        return (here - datetime.fromisoformat(moment)).total_seconds()
    except ValueError:
        return None


def group_number() -> ColumnElement[int]:
    """The number of a worker's group."""
    return workers.c.id.op(">>")(constant(GROUP_BITS))


def _joined(values: ColumnElement[Any]) -> Any:
    return func.string_agg(values, text("''"))


def _is_in(its_state: ColumnElement[int], states: Collection[str]) -> ColumnElement[bool]:
    return its_state.in_([_number(each) for each in sorted(states)])


def _number(state: str) -> ColumnElement[int]:
    return constant(STATES.index(State(state)))
