"""Single-flight: however many threads ask for a result, one call at a time computes it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Shares the result of one call, or its error, among all callers that arrive while the call runs.

    With `max_age_seconds`, later callers share it too, until the call started so long ago.
    """

    def __init__(self, max_age_seconds: float = 0.0) -> None:
        self._max_age_seconds = max_age_seconds
        self._lock = threading.Lock()
        self._flight: _Flight[Result] | None = None

    def run(self, call: Callable[[], Result], timeout: float | None = None) -> Result:
        """Return the shared result, or else that of `call`, which runs in a thread of its own.

        timeout: in seconds; None waits for the end of the call.

        Raises:
            TimeoutError: the call is still running at the end of the timeout. It continues for the other callers.
            Exception: the error of the call.
        """
        flight = self._join(call)
        error = flight.exception(timeout)
        if error is not None:
            # All callers raise the same object: without the reset, each of them would lengthen its traceback.
            raise error.with_traceback(flight.traceback)
        return flight.result()

    def _join(self, call: Callable[[], Result]) -> "_Flight[Result]":
        with self._lock:
            if self._flight is None or (self._flight.done() and self._flight.age() >= self._max_age_seconds):
                flight = _Flight[Result]()
                # Before the flight is shared: where no thread can start, the next caller tries again.
                threading.Thread(target=self._fly, args=(flight, call), name="single-flight", daemon=True).start()
                self._flight = flight
            return self._flight

    def _fly(self, flight: "_Flight[Result]", call: Callable[[], Result]) -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised in the threads of the callers
            self._land(flight)
            flight.traceback = error.__traceback__
            flight.set_exception(error)
        else:
            self._land(flight)
            flight.set_result(result)

    def _land(self, flight: "_Flight[Result]") -> None:
        """Release a result that no later caller shares. Before its callers return: their next call is a new one."""
        with self._lock:
            if flight.age() >= self._max_age_seconds:
                self._flight = None


class _Flight(Future[Result]):
    traceback: TracebackType | None = None

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()

    def age(self) -> float:
        return time.monotonic() - self._started
