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


def test_backoff_doubles_to_30_s_and_starts_again_after_a_long_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: now))
    child = Dying()
    child.launch()
    reported: list[str] = []
    watching = Supervisor([child], reported.append)
    waits = []
    for lived in (0, 0, 0, 0, 0, 59, 0, 60, 0):
        eventually(lambda: child.poll() == 1)
        now += lived
        watching.tick()
        restart = re.fullmatch(r"child exited with code 1; restarting it in (\d+) s", reported[-1])
        assert restart is not None
        waits.append(int(restart[1]))
        now += waits[-1] - 0.5
        watching.tick()
        assert child.launches == len(waits)
        now += 0.5
        watching.tick()
        assert child.launches == len(waits) + 1
    eventually(lambda: child.poll() == 1)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 1, 2]
    assert len(reported) == len(waits)
