import re
from types import SimpleNamespace

import pytest

from amp_workers.ampd import supervisor
from amp_workers.ampd.supervisor import Command, Supervisor
from tests.processes import eventually


class Dying(Command):
    """A child that exits at once. It counts how often it was started."""

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
    longest = {0: [1, 2, 4, 8, 16, 30, 30], 60: [1, 2]}  # backoffs after a run of so many seconds
    for lived, waits in longest.items():
        for number, wait in enumerate(waits):
            eventually(lambda: child.poll() == 1)
            launches = child.launches
            now += lived if number == 0 else 0
            watching.tick()
            restart = re.fullmatch(r"child exited with code 1; restarting it in (\S+) s", reported[-1])
            assert restart is not None
            assert wait / 3 - 0.05 <= float(restart[1]) <= wait + 0.05, "it has jitter"
            now += wait / 3 - 0.05
            watching.tick()
            assert child.launches == launches
            now += wait
            watching.tick()
            assert child.launches == launches + 1
    eventually(lambda: child.poll() == 1)  # the last one is reaped as well
    assert len(reported) == 9
