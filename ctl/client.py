"""The Admin API over HTTP, with the standard library alone: `ampctl` is called in shell loops and must start fast."""

import http.client
import ipaddress
import json
import re
import ssl
from collections.abc import Collection
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

import click

from amp_workers.ctl.text import shown
from amp_workers.errors import AmpError

TIMEOUT_SECONDS = 10.0

MOST_A_PAGE = 10_000
"""More workers than that the API gives in one answer only if no limit is asked for."""

_ALLOWED = re.compile(r"[!-~]+")

_TEXTS = ("node_id", "state", "created_at", "registered_at", "heartbeat_at")
_INFO_TEXTS = ("version", "commit_sha", "commit_timestamp", "build_date")

# OpenSSL's X509_V_ERR_…: self-signed, self-signed in the chain, no issuer found, first certificate not verifiable.
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}


class ApiError(click.ClickException):
    """The API could not be asked, or said no; the message names the URL and the cause."""

    def __init__(self, message: str, code: str | None = None) -> None:
        """code: the API's error_code, such as WORKER_NOT_FOUND; None if the API did not say one."""
        super().__init__(message)
        self.code = code


class InvalidAdminUrl(AmpError, ValueError):
    """The URL of the API is none; the message says why."""


class InvalidCredentials(AmpError, ValueError):
    """The token or the certificate cannot be used so; the message says why, and has no secret in it."""


class AdminApi:
    """One Admin API."""

    def __init__(
        self,
        url: str,
        auth_token: str | None = None,
        ca_file: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        *,
        insecure: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """url: such as http://localhost:1610; a path in it is kept, for an API behind a proxy.

        auth_token: a bearer token, or `user:password`. ca_file, client_cert, client_key: PEM files; the first one
        replaces the system's authorities. insecure: send the token over plain HTTP to any address.

        Raises:
            InvalidAdminUrl: it is no http:// or https:// URL.
            InvalidCredentials: the token must not be sent to that URL, or is none.
        """
        if "@" in url:  # the URL is not shown: what is before the @ is a secret
            raise InvalidAdminUrl(
                "a user and a password cannot be in the URL of the Admin API: set AMP_AUTH_TOKEN to user:password"
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidAdminUrl(f"'{url}' is no URL: {error}") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or not _ALLOWED.fullmatch(url):
            raise InvalidAdminUrl(f"{url!r} is no URL like http://localhost:1610")
        if parts.query or parts.fragment:
            raise InvalidAdminUrl("only a scheme, a host, a port and a path can be in the URL of the Admin API")
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._host, self._port = parts.hostname, port
        self._secure = parts.scheme == "https"
        self._timeout_seconds = timeout_seconds
        if client_key is not None and client_cert is None:
            raise InvalidCredentials("--client-key needs --client-cert, the certificate that it belongs to")
        self._ca_file, self._client_cert, self._client_key = ca_file, client_cert, client_key
        self._headers = {"Accept": "application/json"}
        self._secrets: list[str] = []
        if auth_token is not None:
            if not (self._secure or insecure or _is_loopback(self._host)):
                raise InvalidCredentials(
                    f"the token is not sent over plain HTTP to {self._host}, where anybody on the way can read it: "
                    "use https://, or --insecure if you trust the network"
                )
            authorization = _authorization(auth_token)
            self._headers["Authorization"] = authorization
            self._secrets = [authorization.partition(" ")[2], auth_token]

    def workers(
        self,
        states: Collection[str] = (),
        version: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> dict[str, Any]:
        """Return `{"workers": [worker, …]}`, ordered by node id.

        states, version: only workers of these; no states are all. limit: at most so many; where there are more, the
        answer has "next", the last node id in it. after: only node ids that come after this one.
        """
        wanted = {"state": ",".join(states), "version": version}
        found: list[dict[str, Any]] = []
        while True:
            size = None if limit is None else min(limit - len(found), MOST_A_PAGE)
            query = {name: value for name, value in (wanted | {"limit": size, "after": after}).items() if value}
            asked = "&".join(f"{name}={quote(str(value), safe=',')}" for name, value in query.items())
            path = f"/workers?{asked}" if asked else "/workers"
            page = self._ask("GET", path)
            workers, last = page.get("workers"), page.pop("next", None)
            if not isinstance(workers, list) or not all(_is_worker(each) for each in workers):
                raise self._no_admin_api(path)
            # Chosen here as well: an API that does not know the parameters gives all.
            found += [
                each
                for each in workers
                if (not states or each["state"] in states)
                and (version is None or each["info"]["version"] == version)
                and (after is None or each["node_id"] > after)
            ]
            if limit is not None and (len(found) > limit or (len(found) == limit and last is not None)):
                return page | {"workers": found[:limit], "next": found[limit - 1]["node_id"]}
            if last is None:
                return page | {"workers": found}
            if not isinstance(last, str) or last <= (after or ""):  # it would go on for ever
                raise self._no_admin_api(path)
            after = last

    def worker(self, node_id: str) -> dict[str, Any]:
        """Return one worker."""
        path = f"/workers/{quote(node_id, safe='')}"
        answer = self._ask("GET", path)
        if not _is_worker(answer):
            raise self._no_admin_api(path)
        return answer

    def forget(self, node_id: str) -> None:
        """Have one worker that is not alive removed from the metadata DB."""
        self._ask("DELETE", f"/workers/{quote(node_id, safe='')}")

    def version(self) -> str:
        """Return the version of the API."""
        answer = self._ask("GET", "/openapi.json")
        info = answer.get("info")
        if not isinstance(info, dict) or not isinstance(info.get("version"), str):
            raise self._no_admin_api("/openapi.json")
        return str(info["version"])

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        connection = self._connection()
        try:
            connection.request(method, self._prefix + path, headers=self._headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last one from a host that cannot be
            reason = _reason(error)
            if self._secure and self._client_cert is None and _hangs_up(error):
                reason += "; if it wants a certificate of yours, give --client-cert and --client-key"
            elif isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
                reason = "it does not speak HTTP" if self._secure else "it does not speak HTTP; is it https://?"
            raise ApiError(f"cannot reach the Admin API at {self.url}: {reason}") from error
        finally:
            connection.close()
        return self._read(path, response, body)

    def _connection(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_seconds)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_seconds, context=self._tls)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        try:
            tls = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise ApiError(f"cannot use --ca-file {self._ca_file}: {_reason(error)}") from error
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
            # Not followed: a token is for the address that it was given for.
            cause = f"it redirects to {response.getheader('Location')}; if that is the Admin API, name it directly"
        else:
            cause = f"HTTP {response.status} {response.reason}, which is no answer of an Admin API"
        if response.status == 401:
            told = "the token was refused" if "Authorization" in self._headers else "set AMP_AUTH_TOKEN"
            cause = f"{cause}; {told}"
        for secret in self._secrets:
            cause = cause.replace(secret, "***")
        raise ApiError(f"{self.url}{path}: {shown(cause)}", code)

    def _no_admin_api(self, path: str) -> ApiError:
        return ApiError(f"{self.url}{path}: that is no answer of an Admin API")


def _authorization(auth_token: str) -> str:
    # RFC 6750 has no colon in a bearer token, so that one tells basic credentials.
    if ":" in auth_token:
        if not auth_token.isprintable():
            raise InvalidCredentials("the user and the password have a character in them that cannot be sent")
        import base64

        return f"Basic {base64.b64encode(auth_token.encode()).decode()}"
    if not _ALLOWED.fullmatch(auth_token):
        raise InvalidCredentials(
            "the token is empty, or has a character that no token has, such as a space or a line's end"
        )
    return f"Bearer {auth_token}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hangs_up(error: Exception) -> bool:
    # An alert says so to whoever still reads, but this end may be writing when the other one closes.
    alert = isinstance(error, ssl.SSLError) and "ALERT" in str(error.reason)
    return alert or isinstance(error, ssl.SSLEOFError | ConnectionError)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "; --ca-file names the authority to trust" if error.verify_code in _UNKNOWN_AUTHORITY else ""
        return f"its certificate is refused: {error.verify_message}{hint}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or error.strerror or "TLS failed"
        if reason == "WRONG_VERSION_NUMBER":
            return "it does not speak TLS; is it http://?"
        return reason.lower().replace("_", " ")
    return getattr(error, "strerror", None) or shown(error) or type(error).__name__


def _is_worker(answer: Any) -> bool:
    if not isinstance(answer, dict) or not isinstance(answer.get("info"), dict):
        return False
    age = answer.get("heartbeat_age_seconds")
    if not isinstance(age, int | float) or not abs(age) < 1e12:
        return False
    texts = [answer.get(name) for name in _TEXTS] + [answer["info"].get(name) for name in _INFO_TEXTS]
    return all(isinstance(text, str) for text in texts)
