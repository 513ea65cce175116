import pytest

from worker.heartbeat import next_due


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (100.0, 101.0),  # at once
        (100.02, 101.0),  # a beat that took its time: no drift
        (100.999, 101.0),
        (101.0, 102.0),  # a second late: that beat is left out
        (130.4, 131.0),  # thirty seconds frozen: one beat, not thirty
    ],
)
def test_beats_stay_on_the_schedule_and_are_not_made_up_for(now: float, expected: float) -> None:
    assert next_due(100.0, now) == pytest.approx(expected)
