"""Lets those in who may ask, and nobody else."""

import threading
import time

from flask import Flask, Response, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests, Unauthorized

from amp_workers.web.config_file import WebConfig
from amp_workers.web.health import OPEN_PATHS
from amp_workers.web.passwords import Passwords, TooManyAttempts
from amp_workers.web.security import Security

_LOOK_SECONDS = 1.0


def guard(app: Flask, security: Security, served: WebConfig) -> None:
    """Have an application ask for a bearer token or a password, where there are any, and set the configured headers.

    A request that is let in has the name of who sent it in `REMOTE_USER`: the user's, `token`, or `client certificate`.
    Where nobody has to show anything, it is absent. Health and readiness are open to everybody.

    served: what this process has its TLS from. Where that changes, another process is about to take this one's place;
    until then users and headers stay as they are, for they may rely on what that one demands.
    """
    passwords = Passwords()
    looking = threading.Lock()
    looked = time.monotonic()
    config = served

    def renew() -> None:
        nonlocal config
        latest = security.config
        if latest.tls == served.tls:
            config = latest

    def look() -> None:
        nonlocal looked
        if time.monotonic() - looked >= _LOOK_SECONDS and looking.acquire(blocking=False):
            try:
                # What is wrong is told by the parent process, which watches the same files.
                security.look(tell=False)
                renew()
                looked = time.monotonic()
            finally:
                looking.release()

    renew()

    def is_guarded() -> bool:
        return bool(config.users or security.tokens) or served.demands_certificates

    @app.before_request
    def authenticate() -> None:
        look()
        if request.path in OPEN_PATHS:
            return
        users, tokens = config.users, security.tokens
        who: str | None = "client certificate" if served.demands_certificates else None
        if users or tokens:
            scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
            basic = request.authorization if users and scheme.lower() == "basic" else None
            who = None
            if tokens and scheme.lower() == "bearer" and tokens.admit(credentials.strip()):
                who = "token"
            elif basic is not None and basic.username is not None:
                try:
                    if passwords.admit(users, basic.username, basic.password or "", request.remote_addr or ""):
                        who = basic.username
                except TooManyAttempts:
                    raise TooManyRequests("too many passwords are being verified: try again", retry_after=1) from None
            if who is None:
                ways = [("bearer", "a token", tokens), ("basic", "a user and a password", users)]
                asked = [(scheme, text) for scheme, text, given in ways if given]
                raise Unauthorized(
                    f"{' or '.join(text for _, text in asked)} is needed"
                    + (", and what came is none that is known" if "Authorization" in request.headers else ""),
                    www_authenticate=[WWWAuthenticate(scheme, {"realm": "Amp workers"}) for scheme, _ in asked],
                )
        if who is not None:
            request.environ["REMOTE_USER"] = who

    @app.after_request
    def set_headers(response: Response) -> Response:
        if response.status_code == 503 and request.path in OPEN_PATHS and is_guarded():
            # Where the metadata DB is, and what is the matter with it, is not for everybody.
            response = app.make_response(app.handle_user_exception(ServiceUnavailable("not ready: the log says why")))
        response.headers.update(config.headers)
        return response
