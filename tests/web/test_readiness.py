"""Whether a process is ready: asked by many, and answered by one question."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import repeat

import pytest
from werkzeug.exceptions import ServiceUnavailable

from amp_workers.web.readiness import Readiness
from tests.processes import eventually


class Question:
    """Counts how often it is asked, waits as long as it is told to, and raises what there is."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> None:
        self.asked += 1
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error


@pytest.fixture
def question() -> Question:
    return Question()


def ask_at_once(readiness: Readiness, question: Question, number: int) -> list[Future[None]]:
    """See all but three refused while the question is open, and return those three when it is answered."""
    with ThreadPoolExecutor(number) as many:
        checks = [many.submit(readiness.check) for _ in repeat(None, number)]
        eventually(lambda: sum(check.done() for check in checks) == number - 3)
        refused = [check for check in checks if check.done()]
        question.go.set()
    assert all(isinstance(check.exception(), ServiceUnavailable) for check in refused)
    return [check for check in checks if check not in refused]


def test_one_asks_a_few_wait_and_nobody_else_does(question: Question) -> None:
    readiness = Readiness(question)
    answered = ask_at_once(readiness, question, 50)
    assert [check.exception() for check in answered] == [None] * 3
    assert question.asked == 1


def test_those_who_waited_make_room_for_others(question: Question) -> None:
    readiness = Readiness(question)

    def three_ask(asked: int) -> None:
        question.go.clear()
        readiness._answered = 0.0  # long ago
        with ThreadPoolExecutor(3) as many:
            checks = [many.submit(readiness.check)]
            eventually(lambda: question.asked == asked)
            checks += [many.submit(readiness.check) for _ in repeat(None, 2)]
            eventually(lambda: not readiness._places._value)
            question.go.set()
        assert [check.exception() for check in checks] == [None] * 3

    for number in range(3):
        three_ask(number + 1)


def test_an_answer_of_long_ago_is_told_to_nobody(question: Question) -> None:
    question.go.set()
    readiness = Readiness(question)
    readiness.check()
    question.go.clear()
    readiness._answered -= 11
    ask_at_once(readiness, question, 20)


class Clock:
    """Stands still until a test has it go on: what happens within a second does so on a busy machine as well."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("amp_workers.web.readiness.time", clock)
    return clock


def test_the_answer_is_remembered_for_a_second(question: Question, clock: Clock) -> None:
    question.go.set()
    readiness = Readiness(question)
    for _ in repeat(None, 100):
        readiness.check()
    clock.now += 0.9
    readiness.check()
    assert question.asked == 1
    question.error = LookupError("away")
    clock.now += 0.2
    for _ in repeat(None, 100):
        with pytest.raises(LookupError, match="away") as raised:
            readiness.check()
    assert question.asked == 2
    assert len(raised.traceback) < 10, "it has grown with each who was told"


def test_who_cannot_wait_is_told_the_answer_before(question: Question, clock: Clock) -> None:
    question.go.set()
    readiness = Readiness(question)
    readiness.check()
    question.go.clear()
    clock.now += 1.1
    with ThreadPoolExecutor(20) as many:
        checks = [many.submit(readiness.check) for _ in repeat(None, 20)]
        eventually(lambda: sum(check.done() for check in checks) == 17)
        assert all(check.exception() is None for check in checks if check.done())
        question.error = LookupError("away")
        question.go.set()
        wait(checks)
    assert sum(check.exception() is None for check in checks) == 17
