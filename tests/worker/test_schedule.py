from collections import Counter

import pytest

from amp_workers.worker import Backoff
from amp_workers.worker.heartbeat import BACKOFF_SECONDS, INTERVAL_SECONDS, STOP_SECONDS, next_due
from amp_workers.worker.takeover import BEAT_TIMEOUT_SECONDS, SILENT_SECONDS


def test_the_waits_leave_room_for_what_is_promised() -> None:
    # Beating again within 2 s of the database's return, and within 5 s of the network's, which may have swallowed a
    # statement a moment before; stopped within 5 s; stale for want of one connection, never.
    assert BACKOFF_SECONDS[1] < 1
    assert BEAT_TIMEOUT_SECONDS + BACKOFF_SECONDS[1] < 5
    assert STOP_SECONDS <= 4
    assert INTERVAL_SECONDS + BEAT_TIMEOUT_SECONDS < SILENT_SECONDS


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (100.0, 101.0),  # at once
        (100.02, 101.0),  # a slow heartbeat: no drift
        (100.999, 101.0),
        (101.0, 102.0),  # a second late: that heartbeat is left out
        (130.4, 131.0),  # thirty seconds frozen: one heartbeat, not thirty
    ],
)
def test_heartbeats_stay_on_the_schedule_and_are_not_made_up_for(now: float, expected: float) -> None:
    assert next_due(100.0, now) == pytest.approx(expected)


def test_a_fleet_does_not_come_back_in_one_instant() -> None:
    """2,000 workers that lost the database at the same moment, when it has been away for a while."""
    returns = Counter[int]()
    for _ in range(2_000):
        backoff = Backoff(*BACKOFF_SECONDS)
        moment = sum(backoff.next() for _ in range(10))
        assert moment <= 10 * BACKOFF_SECONDS[1]
        returns[int(moment * 10)] += 1
    # Spread evenly over a second, a tenth of it would have 200 of them.
    assert max(returns.values()) < 400
