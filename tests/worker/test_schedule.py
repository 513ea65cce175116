from collections import Counter

import pytest

from amp_workers.worker import Backoff
from amp_workers.worker.heartbeat import BACKOFF_SECONDS, INTERVAL_SECONDS, STOP_SECONDS, next_due
from amp_workers.worker.takeover import BEAT_TIMEOUT_SECONDS, SILENT_SECONDS


def test_the_timeouts_add_up_to_less_than_the_promised_times() -> None:
    # A heartbeat follows within 2 s after the database recovers, and within 5 s after the network recovers, which may
    # have dropped a statement just before. A stop ends within 5 s. One missed connection never makes a worker stale.
    assert BACKOFF_SECONDS[1] < 1
    assert BEAT_TIMEOUT_SECONDS + BACKOFF_SECONDS[1] < 5
    assert STOP_SECONDS <= 4
    assert INTERVAL_SECONDS + BEAT_TIMEOUT_SECONDS < SILENT_SECONDS


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (100.0, 101.0),  # immediately
        (100.02, 101.0),  # a slow heartbeat causes no drift
        (100.999, 101.0),
        (101.0, 102.0),  # one second late: that heartbeat is skipped
        (130.4, 131.0),  # frozen for thirty seconds: one heartbeat, not thirty
    ],
)
def test_heartbeats_stay_on_schedule_and_missed_ones_are_skipped(now: float, expected: float) -> None:
    assert next_due(100.0, now) == pytest.approx(expected)


def test_a_fleet_does_not_reconnect_in_one_instant() -> None:
    """2,000 workers lost the database at the same moment, some time ago."""
    returns = Counter[int]()
    for _ in range(2_000):
        backoff = Backoff(*BACKOFF_SECONDS)
        moment = sum(backoff.next() for _ in range(10))
        assert moment <= 10 * BACKOFF_SECONDS[1]
        returns[int(moment * 10)] += 1
    # Spread evenly over one second, 200 of them would be in each tenth of it.
    assert max(returns.values()) < 400
