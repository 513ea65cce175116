"""Whoever waits for the metadata DB, or for a client that reads slowly, holds a thread: some are kept from that."""

import threading
from collections import deque

from flask import Flask, Response, g, request
from werkzeug.exceptions import ServiceUnavailable

from amp_workers.web.health import OPEN_PATHS

WAITING = 48
"""How many requests may wait for a place, as they do in a burst. Each has a thread as well."""

_PATIENCE_SECONDS = 5.0


class _Places:
    """Hands a place that becomes free to who has waited longest. Whoever has been handed one waits no more, even before
    the thread runs again: as many as have places, and may wait besides, are never refused."""

    def __init__(self, places: int) -> None:
        self._lock = threading.Lock()
        self._free = places
        self._waiting: deque[threading.Event] = deque()

    def take(self) -> bool:
        """Take a place, which may become free within some seconds; false if there is none."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            if len(self._waiting) >= WAITING:
                return False
            handed = threading.Event()
            self._waiting.append(handed)
        if handed.wait(_PATIENCE_SECONDS):
            return True
        with self._lock:
            if handed.is_set():
                return True
            self._waiting.remove(handed)
            return False

    def give(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


def bound_requests(app: Flask, places: int) -> None:
    """Have so many requests be under way at a time, some more wait, and 503 be the answer to all others. Health and
    readiness need no place.

    A request has its place until its answer is there; one of several pieces, until the client has read it. An answer of
    one piece is handed to the server at once, however slowly it is read.
    """
    all_places = _Places(places)

    @app.before_request
    def take_place() -> None:
        # Nor does what is not there.
        if request.path in OPEN_PATHS or request.routing_exception is not None:
            return
        if not all_places.take():
            raise ServiceUnavailable("too many requests wait for the metadata DB, or for slow clients", retry_after=1)
        g.has_place = True

    @app.after_request
    def keep_place(response: Response) -> Response:
        if response.is_sequence and len(response.response) <= 1:  # type: ignore[arg-type] # that makes it a list
            return response
        if g.pop("has_place", False):
            response.call_on_close(all_places.give)
        return response

    @app.teardown_request
    def give_place(_: BaseException | None) -> None:
        if g.pop("has_place", False):
            all_places.give()
