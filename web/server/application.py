"""Runs a Flask application for requests: authentication first, then a thread of the right bulkhead."""

import logging
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.wsgi import ClosingIterator

from amp_workers.web.auth.authenticator import Authenticator, Peer
from amp_workers.web.bulkhead import Bulkhead, QueueFull
from amp_workers.web.health import HEALTHY, READY
from amp_workers.web.policy import Policy

Environ = dict[str, Any]

_READINESS_THREADS = 2
"""For `/-/ready` alone: it must respond while all other threads wait for the metadata DB."""

_MAX_WAITING = 128

_log = logging.getLogger("amp_workers.web")


class Answer(NamedTuple):
    """The response of an application."""

    status: str
    headers: list[tuple[str, str]]
    pieces: list[bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))


class Application:
    """A Flask application behind authentication and admission control.

    A request that is admitted has the name of its sender in `REMOTE_USER`: see `Authenticator.authenticate`.
    """

    def __init__(self, app: Flask, policy: Policy, threads: int) -> None:
        """threads: of requests other than those for health and readiness."""
        self._app, self._authenticator = app, Authenticator(policy)
        self._requests = Bulkhead("request", threads, _MAX_WAITING)
        self._readiness = Bulkhead("readiness", _READINESS_THREADS, _MAX_WAITING)

    async def answer(self, environ: Environ, peer: Peer) -> Answer:
        """Respond to a request. Refusals, and errors of the application, are responses as well."""
        try:
            answer = await self._run(environ, peer)
        except HTTPException as refusal:
            answer = self.refuse(environ, refusal)
        except QueueFull:
            answer = self.refuse(environ)
        except Exception as error:  # noqa: BLE001 - while the body is generated, after Flask's own handlers
            _log.error("request failed", exc_info=error)
            answer = Answer("500 INTERNAL SERVER ERROR", [("Content-Type", "text/plain")], [b"see the log\n"])
        configured = self._authenticator.config(peer).headers
        set_by_app = [(name, value) for name, value in answer.headers if name not in configured]
        return Answer(answer.status, [*set_by_app, *configured.items()], answer.pieces)

    def refuse(self, environ: Environ, refusal: HTTPException | None = None) -> Answer:
        """Return a refusal in the application's format, by default that the server is overloaded. No endpoint runs."""
        overloaded = "too many requests wait for the metadata DB, or for slow clients"
        with self._app.request_context(environ):
            self._app.preprocess_request()
            error = refusal or ServiceUnavailable(overloaded, retry_after=1)
            response = self._app.process_response(self._app.make_response(self._app.handle_user_exception(error)))
        return _collect(response, environ)

    async def _run(self, environ: Environ, peer: Peer) -> Answer:
        path, run = environ["PATH_INFO"], partial(_collect, self._app, environ)
        if path == HEALTHY:
            return run()
        if path == READY:
            answer = await self._readiness.run(peer.name, run)
            if answer.status.startswith("503") and self._authenticator.is_required(peer):
                # The metadata DB's address, and what is wrong with it, is not for clients without authentication.
                raise ServiceUnavailable("not ready: see the log")
            return answer
        user = await self._authenticator.authenticate(peer, environ.get("HTTP_AUTHORIZATION", ""))
        if user:
            environ["REMOTE_USER"] = user
        return await self._requests.run(peer.name, run)


def _collect(application: Any, environ: Environ) -> Answer:
    """Run a WSGI application to its end: a client that reads slowly must not hold its thread."""
    started: list[Any] = []
    body = application(environ, lambda *arguments: started.extend(arguments[:2]))
    with closing(ClosingIterator(body)) as pieces:
        return Answer(started[0], started[1], [*filter(None, pieces)])
