import re
from types import SimpleNamespace

import pytest

from amp_workers.ampd import supervisor
from amp_workers.ampd.supervisor import Command, Supervisor
from tests.processes import eventually


class Dying(Command):
    """A child that ends at once, and how often it was started."""

    def __init__(self) -> None:
        super().__init__("child", ["false"], {})
        self.launches = 0

    def launch(self) -> None:
        self.launches += 1
        super().launch()


def test_the_back_off_doubles_to_half_a_minute_and_begins_anew_after_a_steady_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: now))
    child = Dying()
    child.launch()
    said: list[str] = []
    watching = Supervisor([child], said.append)
    waits = []
    for lived in (0, 0, 0, 0, 0, 59, 0, 60, 0):
        eventually(lambda: child.poll() == 1)
        now += lived
        watching.tick()
        told = re.fullmatch(r"child exited with code 1; starting it again in (\d+) s", said[-1])
        assert told is not None
        waits.append(int(told[1]))
        now += waits[-1] - 0.5
        watching.tick()
        assert child.launches == len(waits)
        now += 0.5
        watching.tick()
        assert child.launches == len(waits) + 1
    eventually(lambda: child.poll() == 1)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 1, 2]
    assert len(said) == len(waits)
