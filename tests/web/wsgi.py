"""An application behind authentication and admission control, in this process, for Werkzeug's test client."""

import asyncio
from collections.abc import Iterable
from typing import Any

from flask import Flask
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Response

from amp_workers.web import Policy
from amp_workers.web.auth.authenticator import Peer
from amp_workers.web.config.web_config import WebConfig
from amp_workers.web.server.application import Application


class Behind:
    """A WSGI application behind authentication and admission control.

    subject: of the client's certificate. accepted_under: the configuration when the connection was accepted; the
    current one by default.
    """

    def __init__(
        self, app: Flask, policy: Policy, subject: str | None = None, accepted_under: WebConfig | None = None
    ) -> None:
        self._application = Application(app, policy, threads=2)
        self._policy, self._subject, self._accepted_under = policy, subject, accepted_under

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        peer = Peer(environ.get("REMOTE_ADDR", "127.0.0.1"), self._subject, self._accepted_under or self._policy.config)
        # The server does the same: schemathesis sends paths without a leading slash, and `./`.
        slashed = {"PATH_INFO": "/" + environ["PATH_INFO"].removeprefix("./").removeprefix("/")}
        answer = asyncio.run(self._answer(environ | slashed, peer))
        start_response(answer.status, answer.headers.to_wsgi_list())
        return answer.iter_encoded()

    async def _answer(self, environ: dict[str, Any], peer: Peer) -> Response:
        async with self._application.response(environ, peer) as response:
            return response


def client(app: Flask, policy: Policy, subject: str | None = None, accepted_under: WebConfig | None = None) -> Client:
    return Client(Behind(app, policy, subject, accepted_under), TestResponse)
