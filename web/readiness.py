"""One question about readiness for all who ask it, since everybody may, as often as they like."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from werkzeug.exceptions import ServiceUnavailable

_REMEMBERED_SECONDS = 1.0

_OUTDATED_SECONDS = 10.0
"""So old an answer is repeated to nobody."""

_WAITING = 2
"""How many may wait beside the one who asks. Each has a thread of the server's."""


class Readiness:
    """Asks whether a process could do its work, once at a time, and remembers the answer for a second."""

    def __init__(self, ready: Callable[[], None]) -> None:
        """ready: raises where it could not."""
        self._ready = ready
        self._lock = threading.Lock()
        self._asked: Future[None] | None = None
        self._answer: Future[None] | None = None
        self._answered = 0.0
        self._places = threading.BoundedSemaphore(_WAITING)

    def check(self) -> None:
        """Return where the process is ready, and raise what `ready` raised where it is not.

        While the question is under way, only some wait for the answer; the others are told the one before.

        Raises:
            ServiceUnavailable: there is none before.
        """
        question: Future[None] = Future()
        with self._lock:
            answer = self._younger_than(_REMEMBERED_SECONDS)
            if answer is None and self._asked is None:
                self._asked = question
            asked = self._asked
        if answer is None and asked is not None:
            answer = self._ask(question) if asked is question else self._wait(asked)
        error = answer.exception() if answer is not None else None
        if error is not None:
            # Without the ways that it took to those who were told it before.
            raise error.with_traceback(None)

    def _younger_than(self, seconds: float) -> Future[None] | None:
        return self._answer if time.monotonic() - self._answered < seconds else None

    def _ask(self, question: Future[None]) -> Future[None]:
        try:
            self._ready()
        except BaseException as error:  # noqa: BLE001 - `check` raises it, in every thread that asked
            question.set_exception(error)
        else:
            question.set_result(None)
        with self._lock:
            self._answer, self._answered, self._asked = question, time.monotonic(), None
        return question

    def _wait(self, asked: Future[None]) -> Future[None]:
        if self._places.acquire(blocking=False):
            try:
                asked.exception()
            finally:
                self._places.release()
            return asked
        with self._lock:
            answer = self._younger_than(_OUTDATED_SECONDS)
        if answer is None:
            raise ServiceUnavailable("many ask at this moment whether it is ready: try again", retry_after=1)
        return answer
