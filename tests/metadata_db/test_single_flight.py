"""Single-flight: one call for all callers, and its result or error for each of them."""

import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest

from amp_workers.metadata_db import SingleFlight
from tests.processes import eventually

CALLERS = 10
SECONDS = 30.0


class Call:
    """Counts its calls, and returns the count, or raises an error, once it may end."""

    def __init__(self) -> None:
        self.runs = 0
        self.may_end = threading.Event()
        self.may_end.set()
        self.error: Exception | None = None

    def __call__(self) -> int:
        self.runs += 1
        number = self.runs
        assert self.may_end.wait(SECONDS)
        if self.error is not None:
            raise self.error
        return number


class Clock:
    """A clock that a test advances: on a busy machine, a real clock could make a result too old."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(import_module("amp_workers.metadata_db.single_flight"), "time", clock)
    return clock


@pytest.fixture
def call() -> Iterator[Call]:
    call = Call()
    yield call
    call.may_end.set()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CALLERS) as callers:
        yield callers


def test_a_caller_that_arrives_during_a_call_joins_it(call: Call, callers: ThreadPoolExecutor) -> None:
    shared = SingleFlight[int]()
    call.may_end.clear()
    first = callers.submit(shared.run, call)
    eventually(lambda: call.runs == 1)
    # Their timeout ends while the call runs: each caller has joined it.
    for _ in range(CALLERS):
        with pytest.raises(TimeoutError):
            shared.run(call, 0.01)
    call.may_end.set()
    assert first.result() == 1
    assert call.runs == 1


def test_no_result_is_shared_after_its_call(call: Call) -> None:
    shared = SingleFlight[int]()
    assert [shared.run(call) for _ in range(3)] == [1, 2, 3]


def test_a_result_is_shared_up_to_its_maximum_age(call: Call, clock: Clock) -> None:
    shared = SingleFlight[int](max_age_seconds=1.0)
    assert [shared.run(call) for _ in range(100)] == [1] * 100
    clock.now += 0.9
    assert shared.run(call) == 1
    clock.now += 0.2
    assert shared.run(call) == 2


def test_an_error_is_shared_as_a_result_is(call: Call, clock: Clock) -> None:
    shared = SingleFlight[int](max_age_seconds=1.0)
    call.error = LookupError("unavailable")
    for _ in range(100):
        with pytest.raises(LookupError, match="unavailable") as raised:
            shared.run(call)
    assert call.runs == 1
    where = traceback.format_tb(raised.tb)
    assert len(where) < 10, "the traceback grows with each caller"
    assert "raise self.error" in where[-1], "the traceback does not lead to the place of the error"
    call.error = None
    clock.now += 1
    assert shared.run(call) == 2


def test_an_error_is_raised_in_all_callers(call: Call, callers: ThreadPoolExecutor) -> None:
    shared = SingleFlight[int](max_age_seconds=SECONDS)
    call.error = ValueError("no")
    call.may_end.clear()
    running = [callers.submit(shared.run, call) for _ in range(CALLERS)]
    eventually(lambda: call.runs == 1)
    call.may_end.set()
    assert [str(each.exception()) for each in running] == ["no"] * CALLERS
    assert call.runs == 1
