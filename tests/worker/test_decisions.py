"""The decisions of a process about a node id, as tables: one observation, one decision."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from amp_workers.metadata_db import Registration
from amp_workers.worker.takeover import Decision, Life, Lock, Observation, Row, Watch, decide

TAKE, WAIT, END, GIVE_WAY = Decision.TAKE, Decision.WAIT, Decision.END_SESSION, Decision.GIVE_WAY
UNKNOWN, HEARTBEAT, SILENCE = Life.UNKNOWN, Life.HEARTBEAT, Life.SILENCE
AS_IT_LIVES = {UNKNOWN: WAIT, HEARTBEAT: GIVE_WAY, SILENCE: TAKE}
UNLESS_IT_LIVES = {UNKNOWN: TAKE, HEARTBEAT: GIVE_WAY, SILENCE: TAKE}
AS_THE_HOLDER_LIVES = {UNKNOWN: WAIT, HEARTBEAT: GIVE_WAY, SILENCE: END}

# By lock and row. A case that depends on the result of watching has one decision per result.
AT_THE_START = {
    (Lock.FREE, Row.MISSING): TAKE,
    (Lock.FREE, Row.STOPPED): TAKE,
    (Lock.FREE, Row.ANOTHERS): AS_IT_LIVES,
    (Lock.OURS, Row.MISSING): UNLESS_IT_LIVES,
    (Lock.OURS, Row.STOPPED): UNLESS_IT_LIVES,
    (Lock.OURS, Row.ANOTHERS): UNLESS_IT_LIVES,
    (Lock.OUR_OLD_SESSIONS, Row.MISSING): END,
    (Lock.OUR_OLD_SESSIONS, Row.STOPPED): END,
    (Lock.OUR_OLD_SESSIONS, Row.ANOTHERS): END,
    (Lock.ANOTHERS, Row.MISSING): AS_THE_HOLDER_LIVES,
    (Lock.ANOTHERS, Row.STOPPED): AS_THE_HOLDER_LIVES,
    (Lock.ANOTHERS, Row.ANOTHERS): AS_THE_HOLDER_LIVES,
}
ONCE_REGISTERED = AT_THE_START | {
    (Lock.FREE, Row.OURS): TAKE,
    (Lock.OURS, Row.MISSING): TAKE,
    (Lock.OURS, Row.OURS): TAKE,
    # A process of Amp's registers before it checks the lock: a held lock shows that it was refused.
    (Lock.OURS, Row.STOPPED): TAKE,
    (Lock.OURS, Row.ANOTHERS): TAKE,
    (Lock.OUR_OLD_SESSIONS, Row.OURS): END,
    (Lock.ANOTHERS, Row.OURS): AS_THE_HOLDER_LIVES,
    (Lock.ANOTHERS, Row.STOPPED): GIVE_WAY,
    (Lock.ANOTHERS, Row.ANOTHERS): GIVE_WAY,
}
AT_THE_START_POOLED = {at: what for at, what in AT_THE_START.items() if at[0] in (Lock.FREE, Lock.ANOTHERS)}
ONCE_REGISTERED_POOLED = AT_THE_START_POOLED | {
    (Lock.FREE, Row.OURS): TAKE,
    (Lock.FREE, Row.STOPPED): GIVE_WAY,
    (Lock.FREE, Row.ANOTHERS): GIVE_WAY,
    (Lock.ANOTHERS, Row.OURS): AS_THE_HOLDER_LIVES,
    (Lock.ANOTHERS, Row.STOPPED): GIVE_WAY,
    (Lock.ANOTHERS, Row.ANOTHERS): GIVE_WAY,
}


@pytest.mark.parametrize(
    ("pooled", "is_registered", "table"),
    [
        (False, False, AT_THE_START),
        (False, True, ONCE_REGISTERED),
        (True, False, AT_THE_START_POOLED),
        (True, True, ONCE_REGISTERED_POOLED),
    ],
    ids=["at the start", "once registered", "pooled at the start", "pooled once registered"],
)
def test_every_observation_has_its_decision(
    pooled: bool, is_registered: bool, table: dict[tuple[Lock, Row], Decision | dict[Life, Decision]]
) -> None:
    locks = [Lock.FREE, Lock.ANOTHERS] if pooled else list(Lock)
    rows = [row for row in Row if is_registered or row is not Row.OURS]
    assert table.keys() == set(product(locks, rows))
    for (lock, row), expected in table.items():
        for life in Life:
            seen = Observation(pooled, is_registered, lock, row, life)
            assert decide(seen) is (expected[life] if isinstance(expected, dict) else expected), seen


NOW = datetime(2025, 1, 15, 17, 20, 15, tzinfo=UTC)
REGISTERED = Registration(NOW, NOW, stopped=False)
RUNNING = Registration(NOW, NOW + timedelta(seconds=40), stopped=False)


def later(before: Registration, seconds: float) -> Registration:
    return replace(before, heartbeat_at=before.heartbeat_at + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("before", "found", "expected"),
    [
        (RUNNING, later(RUNNING, 1), HEARTBEAT),
        (RUNNING, later(RUNNING, -39), HEARTBEAT),  # the clock was set back
        (RUNNING, later(RUNNING, 86_400), HEARTBEAT),
        (RUNNING, RUNNING, UNKNOWN),
        (RUNNING, None, UNKNOWN),
        (None, RUNNING, HEARTBEAT),
        (None, REGISTERED, UNKNOWN),
        (RUNNING, REGISTERED, UNKNOWN),  # a refused process leaves such a row
        (RUNNING, replace(later(RUNNING, 1), stopped=True), UNKNOWN),
        (replace(RUNNING, stopped=True), replace(later(RUNNING, 1), stopped=True), HEARTBEAT),
    ],
)
def test_a_heartbeat_is_a_change_that_is_neither_a_registration_nor_a_stop(
    before: Registration | None, found: Registration | None, expected: Life
) -> None:
    watch = Watch()
    assert watch.see(before, 100.0) is UNKNOWN
    assert watch.see(found, 100.1) is expected


def watch_for(found: list[Registration], gap: float) -> list[Life]:
    watch = Watch()
    return [watch.see(each, 100 + gap * number) for number, each in enumerate(found)]


def test_a_worker_is_silent_after_five_seconds_of_watching() -> None:
    assert watch_for([RUNNING] * 12, 0.5) == [UNKNOWN] * 11 + [SILENCE]
    # Registrations alone do not end the silence: a service manager may restart a process that is refused each time.
    registrations = [Registration(NOW + timedelta(seconds=n), NOW + timedelta(seconds=n), False) for n in range(12)]
    assert watch_for(registrations, 0.5) == [UNKNOWN] * 11 + [SILENCE]


def test_a_pause_of_the_watching_process_does_not_count() -> None:
    assert watch_for([RUNNING] * 2, 3600) == [UNKNOWN] * 2
