"""Runs a Flask application for requests: authentication first, then a thread of the right bulkhead."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.wsgi import ClosingIterator

from amp_workers.web.auth.authenticator import Authenticator, Peer
from amp_workers.web.health import HEALTHY, READY
from amp_workers.web.policy import Policy

Environ = dict[str, Any]

_READINESS_THREADS = 2
"""For `/-/ready` alone: it must answer while all other threads wait for the metadata DB."""

_MAX_WAITING = 128
_MAX_WAIT_SECONDS = 5.0

_log = logging.getLogger("amp_workers.web")


class Answer(NamedTuple):
    """What an application answers."""

    status: str
    headers: list[tuple[str, str]]
    pieces: list[bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))


class Bulkhead:
    """Threads of one kind of request. Requests wait for a thread in the order of their arrival."""

    def __init__(self, name: str, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, name)
        self._free = asyncio.Semaphore(threads)
        self._waiting = 0

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """Run a function in one of the threads; raises TimeoutError where too many wait, or this one did for long."""
        self._waiting += 1
        try:
            async with asyncio.timeout(_MAX_WAIT_SECONDS if self._waiting <= _MAX_WAITING else 0):
                await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._free.release()


class Application:
    """A Flask application behind authentication and admission control.

    A request that is let in has the name of its sender in `REMOTE_USER`: see `Authenticator.authenticate`.
    """

    def __init__(self, app: Flask, policy: Policy, threads: int) -> None:
        """threads: of requests other than those for health and readiness."""
        self._app, self._authenticator = app, Authenticator(policy)
        self._requests = Bulkhead("request", threads)
        self._readiness = Bulkhead("readiness", _READINESS_THREADS)

    async def answer(self, environ: Environ, peer: Peer) -> Answer:
        """Answer a request. Refusals, and errors of the application, are answers as well."""
        try:
            answer = await self._run(environ, peer)
        except HTTPException as refusal:
            answer = self.refuse(environ, refusal)
        except TimeoutError:
            answer = self.refuse(environ)
        except Exception as error:  # noqa: BLE001 - while the body is generated, after Flask's own handlers
            _log.error("a request failed", exc_info=error)
            answer = Answer("500 INTERNAL SERVER ERROR", [("Content-Type", "text/plain")], [b"see the log\n"])
        configured = self._authenticator.config(peer).headers
        set_by_app = [(name, value) for name, value in answer.headers if name not in configured]
        return Answer(answer.status, [*set_by_app, *configured.items()], answer.pieces)

    def refuse(self, environ: Environ, refusal: HTTPException | None = None) -> Answer:
        """Have the application word a refusal, by default that the server is overloaded; no endpoint runs."""
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
            answer = await self._readiness.run(run)
            if answer.status.startswith("503") and self._authenticator.is_required(peer):
                # The metadata DB's address, and what is wrong with it, is not for clients without authentication.
                raise ServiceUnavailable("not ready: the log says why")
            return answer
        user = await self._authenticator.authenticate(peer, environ.get("HTTP_AUTHORIZATION", ""))
        return await self._requests.run(partial(_collect, self._app, environ | ({"REMOTE_USER": user} if user else {})))


def _collect(application: Any, environ: Environ) -> Answer:
    """Run a WSGI application to its end: a client that reads slowly must not hold its thread."""
    started: list[Any] = []
    body = application(environ, lambda *arguments: started.extend(arguments[:2]))
    with closing(ClosingIterator(body)) as pieces:
        return Answer(started[0], started[1], [*filter(None, pieces)])
