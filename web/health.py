"""`/-/healthy` and `/-/ready`, the endpoints for an orchestrator, with the paths of Prometheus's own servers."""

import threading
import time
from collections.abc import Callable

from flask import Blueprint, Response

HEALTHY, READY = "/-/healthy", "/-/ready"
"""Without authentication: a kubelet has no credentials."""

_REMEMBERED_SECONDS = 1.0


class Readiness:
    """Checks whether a process could do its work, once at a time, and remembers the result for a second."""

    def __init__(self, check: Callable[[], None]) -> None:
        """check: raises an error where the process could not."""
        self._check = check
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._checked = -float("inf")

    def check(self) -> None:
        """Raise what the check raises where the process is not ready."""
        with self._lock:
            if time.monotonic() - self._checked >= _REMEMBERED_SECONDS:
                self._error = None
                try:
                    self._check()
                except Exception as error:  # noqa: BLE001 - raised below, for each request until the next check
                    self._error = error
                self._checked = time.monotonic()
            if self._error is not None:
                raise self._error.with_traceback(None)  # it would grow with each request


def health(check: Callable[[], None], warning: Callable[[], str | None] = lambda: None) -> Blueprint:
    """Return the two endpoints: `/-/healthy` answers as long as the process serves.

    check: raises an error where the process could not do its work now; the application's own handler answers that.
    warning: returns what `/-/ready` adds for a process that is ready.
    """
    readiness = Readiness(check)
    blueprint = Blueprint("health", __name__)

    @blueprint.get(HEALTHY)
    def healthy() -> Response:
        return Response("OK\n", content_type="text/plain; charset=utf-8")

    @blueprint.get(READY)
    def is_ready() -> Response:
        readiness.check()
        found = warning()
        return Response("ready\n" if found is None else f"ready; {found}\n", content_type="text/plain; charset=utf-8")

    return blueprint
