"""JSON over HTTP, with the standard library alone: `ampctl` is called in shell loops and must start fast."""

import http.client
import json
import re
import ssl
import time
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from amp_workers.ctl.credentials import authorization, is_loopback
from amp_workers.ctl.errors import ApiError, InvalidAdminUrl, InvalidCredentials
from amp_workers.ctl.render import shown

TIMEOUT_SECONDS = 15.0
"""Longer than the Admin API's own timeouts of the queue (5 s) and of a query (5 s), so that its error arrives first."""

_LEAST_BYTES = 10_000
"""A response that brings less within one timeout is given up, so that every request ends."""

NOT_AN_ADMIN_API = "this is not a response of an Admin API; check the address"
"""The cause in an error about a response of another shape."""

_PRINTABLE = re.compile(r"[!-~]+")

# OpenSSL's X509_V_ERR_…: self-signed, self-signed in the chain, no issuer found, first certificate not verifiable.
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}


class Connection:
    """Sends each request on a TCP connection of its own."""

    def __init__(
        self,
        url: str,
        auth_token: str | None = None,
        ca_file: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        *,
        token_source: str = "the token",  # noqa: S107 - the name of a source
        insecure: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """url: such as http://localhost:1610; a path in it is kept, for an API behind a proxy.

        auth_token: a bearer token, or `user:password`. token_source: what it came from, for messages. ca_file,
        client_cert, client_key: PEM files; the first one replaces the system's authorities. insecure: send the token
        over plain HTTP to any address.

        Raises:
            InvalidAdminUrl: the URL is not an http:// or https:// URL.
            InvalidCredentials: the token is malformed, or must not be sent to that URL.
        """
        if "@" in url:  # the URL is not shown: the part before the @ is a secret
            raise InvalidAdminUrl(
                "a user and a password cannot be in the URL of the Admin API: set AMP_AUTH_TOKEN to user:password"
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidAdminUrl(f"invalid URL {url!r}: {error}") from error
        host = parts.hostname
        problem = _problem_of(url, parts.scheme, host)
        if problem is not None or host is None:
            raise InvalidAdminUrl(f"invalid URL {url!r}: {problem} (example: http://localhost:1610)")
        if parts.query or parts.fragment:
            raise InvalidAdminUrl("only a scheme, a host, a port and a path can be in the URL of the Admin API")
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._host, self._port = host, port
        self._secure = parts.scheme == "https"
        self._timeout_seconds = timeout_seconds
        if client_key is not None and client_cert is None:
            raise InvalidCredentials("--client-key needs --client-cert, the certificate that it belongs to")
        self._ca_file, self._client_cert, self._client_key = ca_file, client_cert, client_key
        self._headers = {"Accept": "application/json"}
        self._secrets: list[str] = []
        if auth_token is not None:
            if not (self._secure or insecure or is_loopback(self._host)):
                raise InvalidCredentials(
                    f"the token is not sent over plain HTTP to {self._host}, where others on the network can read it: "
                    "use https://, or --insecure if you trust the network"
                )
            header = authorization(auth_token, token_source)
            self._headers["Authorization"] = header
            self._secrets = [header.partition(" ")[2], auth_token.strip("\r\n")]

    def request(self, method: str, path: str) -> dict[str, Any]:
        """Return the JSON object of the response; an empty one for 204.

        Raises:
            ApiError: no response, or an error.
        """
        connection = self._connect()
        try:
            connection.request(method, self._prefix + path, headers=self._headers)
            response = connection.getresponse()
            with response:  # read1() leaves it open at the end of the body
                body = self._body_of(response)
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # UnicodeError: the host name is invalid
            reason = _reason(error)
            if self._secure and self._client_cert is None and _hangs_up(error):
                reason += "; if the server requires a client certificate, give --client-cert and --client-key"
            elif isinstance(error, http.client.IncompleteRead):
                reason = "the connection was closed in the middle of the response"
            elif isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
                reason = "the server does not speak HTTP" + ("" if self._secure else "; is the scheme https://?")
            problem = "cannot reach the Admin API"
            raise ApiError(f"{problem} at {self.url}: {reason}", cause=f"{problem}: {reason}", url=self.url) from error
        finally:
            connection.close()
        return self._read(path, response, body)

    def _body_of(self, response: http.client.HTTPResponse) -> bytes:
        body, counted = bytearray(), 0
        ends = time.monotonic() + self._timeout_seconds
        while piece := response.read1(1 << 16):
            body += piece
            if time.monotonic() >= ends:
                if len(body) - counted < _LEAST_BYTES:
                    raise TimeoutError(f"only {len(body)} bytes of the response arrived in time")
                counted, ends = len(body), time.monotonic() + self._timeout_seconds
        # Unlike read(), read1() does not notice a connection that was closed early.
        length = response.getheader("Content-Length", "")
        if length.isdecimal() and len(body) < int(length):
            raise http.client.IncompleteRead(bytes(body), int(length) - len(body))
        return bytes(body)

    def _connect(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_seconds)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_seconds, context=self._tls)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        try:
            tls = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise ApiError(f"cannot use --ca-file {self._ca_file}: {_reason(error)}") from error
        # Python 3.13 refuses an authority without the key usage extension, as `openssl req -x509` makes it.
        tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self._client_cert is not None:
            try:
                tls.load_cert_chain(self._client_cert, self._client_key)
            except OSError as error:
                files = f"--client-cert {self._client_cert}"
                files += f" with --client-key {self._client_key}" if self._client_key else ""
                raise ApiError(f"cannot use {files}: {_reason(error)}") from error
        return tls

    def _read(self, path: str, response: http.client.HTTPResponse, body: bytes) -> dict[str, Any]:
        if response.status == 204:
            return {}
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if response.status == 200 and isinstance(document, dict):
            return document
        code = None
        if isinstance(document, dict) and "error_message" in document:
            code = str(document.get("error_code"))
            cause = f"{document['error_message']} ({code})"
        elif 300 <= response.status < 400:
            # Not followed: a token is for one address.
            location = response.getheader("Location") or "an unknown address"
            cause = f"HTTP {response.status} redirects to {location}; if that is the Admin API, use its address"
        else:
            cause = f"HTTP {response.status} {response.reason}"
            if response.status != 401:  # a proxy in front of the API can ask for credentials
                cause += f": {NOT_AN_ADMIN_API}"
        if response.status == 401:
            hint = "the token was refused" if "Authorization" in self._headers else "set AMP_AUTH_TOKEN"
            cause = f"{cause}; {hint}"
        for secret in self._secrets:
            cause = cause.replace(secret, "***")
        cause = shown(cause)
        raise ApiError(f"{self.url}{path}: {cause}", cause=cause, url=self.url, status=response.status, code=code)


def _problem_of(url: str, scheme: str, host: str | None) -> str | None:
    if "://" not in url:
        return "no scheme"
    if scheme not in {"http", "https"}:
        return f"the scheme is {scheme!r}, not http or https"
    if not host:
        return "no host"
    return None if _PRINTABLE.fullmatch(url) else "a character that no URL has"


def _hangs_up(error: Exception) -> bool:
    # A peer that reads receives an alert; this end may still be writing when the other one closes.
    alert = isinstance(error, ssl.SSLError) and "ALERT" in str(error.reason)
    return alert or isinstance(error, ssl.SSLEOFError | ConnectionError)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "; --ca-file names the authority to trust" if error.verify_code in _UNKNOWN_AUTHORITY else ""
        return f"its certificate is refused: {error.verify_message}{hint}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or error.strerror or "TLS failed"
        if reason == "WRONG_VERSION_NUMBER":
            return "the server does not speak TLS; is the scheme http://?"
        return reason.lower().replace("_", " ")
    return getattr(error, "strerror", None) or shown(error) or type(error).__name__
