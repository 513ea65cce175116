"""Single-flight: callers that come while a call runs get its result, and start none of their own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Runs a function once at a time, however many threads call. It keeps no result."""

    def __init__(self, run: Callable[[], Result]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._flight: Future[Result] | None = None

    def __call__(self) -> Result:
        """Return what the function returns, or raise what it raises."""
        with self._lock:
            joined = self._flight
            if joined is None:
                own = self._flight = Future()
        if joined is not None:
            error = joined.exception()
            if error is not None:
                raise error.with_traceback(None)  # each thread would add its own frames to the one before
            return joined.result()
        try:
            result = self._run()
        except BaseException as error:
            own.set_exception(error)
            raise
        else:
            own.set_result(result)
            return result
        finally:
            with self._lock:
                self._flight = None
