"""Whether a process is ready: one check for all who ask."""

import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest

from amp_workers.web.health import Readiness
from tests.processes import eventually


class Check:
    """Counts how often it is made, waits until it may end, and raises an error where there is one."""

    def __init__(self) -> None:
        self.made = 0
        self.may_end = threading.Event()
        self.may_end.set()
        self.error: Exception | None = None

    def __call__(self) -> None:
        self.made += 1
        assert self.may_end.wait(20)
        if self.error is not None:
            raise self.error


class Clock:
    """Stands still until a test sets it: what happens within a second does so on a busy machine as well."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(import_module("amp_workers.web.health"), "time", clock)
    return clock


def test_requests_at_the_same_moment_share_one_check() -> None:
    check = Check()
    check.may_end.clear()
    readiness = Readiness(check)
    with ThreadPoolExecutor(10) as many:
        checks = [many.submit(readiness.check) for _ in range(10)]
        eventually(lambda: check.made == 1)
        check.may_end.set()
    assert [each.exception() for each in checks] == [None] * 10
    assert check.made == 1


def test_the_result_is_remembered_for_a_second(clock: Clock) -> None:
    check = Check()
    readiness = Readiness(check)
    for _ in range(100):
        readiness.check()
    clock.now += 0.9
    readiness.check()
    assert check.made == 1
    check.error = LookupError("unavailable")
    clock.now += 0.2
    for _ in range(100):
        with pytest.raises(LookupError, match="unavailable") as raised:
            readiness.check()
    assert check.made == 2
    assert len(raised.traceback) < 10, "it has grown with each request"
    check.error = None
    clock.now += 1
    readiness.check()
