"""Runs a Flask application for requests: authentication first, then a thread of the right bulkhead."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from flask import Flask
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.wrappers import Response

from amp_workers.web.auth.authenticator import Authenticator, Peer
from amp_workers.web.bulkhead import Bulkhead, QueueFull
from amp_workers.web.health import HEALTHY, READY
from amp_workers.web.policy import Policy

Environ = dict[str, Any]

_READINESS_THREADS = 2
"""For `/-/ready` alone: it must respond while all other threads wait for the metadata DB."""

_MAX_WAITING = 128

_LARGE_RESPONSE, _MAX_UNSENT = 2**20, 256 * 2**20
"""Bytes. Large responses are refused while so much is unsent, because clients read slowly."""


class _Response(Response):
    default_mimetype = None


_run = partial(_Response.from_app, buffered=True)
"""Runs a WSGI application to its end: a client that reads slowly must not hold its thread."""


class Application:
    """A Flask application behind authentication and admission control.

    A request that is admitted has the name of its sender in `REMOTE_USER`: see `Authenticator.authenticate`.
    running: number of requests. draining: whether each response is the last one of its connection.
    """

    def __init__(self, app: Flask, policy: Policy, threads: int) -> None:
        """threads: of requests other than those for health and readiness."""
        self._app, self._authenticator = app, Authenticator(policy)
        self._requests = Bulkhead("request", threads, _MAX_WAITING)
        self._readiness = Bulkhead("readiness", _READINESS_THREADS, _MAX_WAITING)
        self._unsent, self.running, self.draining = 0, 0, False

    @asynccontextmanager
    async def response(self, environ: Environ, peer: Peer) -> AsyncIterator[Response]:
        """Respond to a request, for a block that sends the response. Refusals are responses as well."""
        self.running, large = self.running + 1, 0
        try:
            try:
                response = await self._respond(environ, peer)
                size = response.calculate_content_length() or 0
                if size > _LARGE_RESPONSE and self._unsent and self._unsent + size > _MAX_UNSENT:
                    raise QueueFull
            except HTTPException as refusal:
                response, size = self._refuse(environ, refusal), 0
            large = size if size > _LARGE_RESPONSE else 0
            self._unsent += large
            response.headers.update(self._authenticator.config(peer).headers)
            if self.draining:
                response.headers["Connection"] = "close"
            yield response
        finally:
            self._unsent -= large
            self.running -= 1

    async def _respond(self, environ: Environ, peer: Peer) -> Response:
        path, run = environ["PATH_INFO"], partial(_run, self._app, environ)
        if path == HEALTHY:
            return run()
        if path == READY:
            response = await self._readiness.run(peer.name, run)
            if response.status_code == 503 and self._authenticator.is_required(peer):
                # The metadata DB's address, and what is wrong with it, is not for clients without authentication.
                raise ServiceUnavailable("not ready: see the log")
            return response
        user = await self._authenticator.authenticate(peer, environ.get("HTTP_AUTHORIZATION", ""))
        if user:
            environ["REMOTE_USER"] = user
        return await self._requests.run(peer.name, run)

    def _refuse(self, environ: Environ, refusal: HTTPException) -> Response:
        """Return a refusal in the application's format. No endpoint runs."""
        with self._app.request_context(environ):
            self._app.preprocess_request()
            response = self._app.make_response(self._app.handle_user_exception(refusal))
            return _run(self._app.process_response(response), environ)
