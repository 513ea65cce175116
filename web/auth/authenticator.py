"""Authentication of requests: by a user's password, a bearer token or a client certificate."""

from typing import NamedTuple

from werkzeug.datastructures import Authorization, WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized

from amp_workers.web.auth.passwords import Passwords
from amp_workers.web.auth.tokens import admits
from amp_workers.web.bulkhead import QueueFull
from amp_workers.web.config.web_config import WebConfig
from amp_workers.web.policy import Policy

_TOKEN_USER = "token"  # noqa: S105 - the name of a user
"""A browser sends a token as the password of this user: it has no other way to send one."""


class Peer(NamedTuple):
    """The other end of a connection. subject: of its verified certificate, if it has sent one. config: the
    configuration at the time when the connection was accepted."""

    address: str
    subject: str | None
    config: WebConfig

    @property
    def name(self) -> str:
        """What fair queueing distinguishes peers by."""
        return self.subject or self.address


class Authenticator:
    """Finds the sender of a request, by the policy of the moment."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._passwords = policy, Passwords()

    def config(self, peer: Peer) -> WebConfig:
        """Return the configuration that applies to a connection: the latest one.

        If that requires certificates, a connection without one was accepted before. It keeps its own configuration,
        because the latest one may rely on certificates alone.
        """
        latest = self._policy.config
        return peer.config if latest.requires_certificates and peer.subject is None else latest

    def is_required(self, peer: Peer) -> bool:
        """Return whether a connection's requests need authentication."""
        return bool(self._policy.tokens) or self.config(peer).authenticates

    async def authenticate(self, peer: Peer, header: str) -> str | None:
        """Return the name of a request's sender: a user's, `token`, or a certificate's subject. None where no
        authentication is configured and the client has sent no certificate.

        header: the value of `Authorization`, or "". Raises Unauthorized, and TooManyRequests where too many passwords
        wait for their verification.
        """
        users, tokens = self.config(peer).users, self._policy.tokens
        if not (users or tokens):
            return peer.subject
        scheme, _, credentials = header.partition(" ")
        if scheme.lower() == "bearer" and admits(tokens, credentials.strip()):
            return _TOKEN_USER
        basic = Authorization.from_header(header) if scheme.lower() == "basic" else None
        if basic is not None and basic.username is not None:
            name, password = basic.username, basic.password or ""
            if name == _TOKEN_USER and admits(tokens, password):
                return name
            try:
                if users and await self._passwords.verify(users, name, password, peer.name):
                    return name
            except QueueFull:
                raise TooManyRequests("too many passwords are being verified: retry", retry_after=1) from None
        needed = " or ".join(["a token"] * bool(tokens) + ["a user and a password"] * bool(users))
        raise Unauthorized(
            f"{needed} is required" + (", and the credentials of the request are not valid" if header else ""),
            # A browser asks its user for a password, or for a token as that of the user `token`.
            www_authenticate=[
                WWWAuthenticate(scheme, {"realm": "Amp workers"}) for scheme in ["bearer"] * bool(tokens) + ["basic"]
            ],
        )
