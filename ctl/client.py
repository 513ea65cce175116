"""The Admin API over HTTP, with the standard library alone: `ampctl` is called in shell loops and must start fast."""

import http.client
import json
import re
from typing import Any
from urllib.parse import quote, urlsplit

TIMEOUT_SECONDS = 10.0


_ALLOWED = re.compile(r"[!-~]+")

_TEXTS = ("node_id", "created_at", "registered_at", "heartbeat_at")
_INFO_TEXTS = ("version", "commit_sha", "commit_timestamp", "build_date")


class ApiError(Exception):
    """The API could not be asked, or said no; the message names the URL and the cause."""


class InvalidAdminUrl(ValueError):
    """The URL of the API is none; the message says why."""


class AdminApi:
    """One Admin API."""

    def __init__(self, url: str) -> None:
        """url: such as http://localhost:1610; a path in it is kept, for an API behind a proxy.

        Raises:
            InvalidAdminUrl: it is no http:// or https:// URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidAdminUrl(f"'{url}' is no URL: {error}") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or not _ALLOWED.fullmatch(url):
            raise InvalidAdminUrl(f"{url!r} is no URL like http://localhost:1610")
        if parts.username or parts.query or parts.fragment:
            raise InvalidAdminUrl("only a scheme, a host, a port and a path can be in the URL of the Admin API")
        self._url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._host, self._port = parts.hostname, port
        self._secure = parts.scheme == "https"

    def workers(self) -> dict[str, Any]:
        """Return `{"workers": [worker, …]}`."""
        answer = self._get("/workers")
        workers = answer.get("workers")
        if not isinstance(workers, list) or not all(_is_worker(each) for each in workers):
            raise self._no_admin_api("/workers")
        return answer

    def worker(self, node_id: str) -> dict[str, Any]:
        """Return one worker."""
        path = f"/workers/{quote(node_id, safe='')}"
        answer = self._get(path)
        if not _is_worker(answer):
            raise self._no_admin_api(path)
        return answer

    def _get(self, path: str) -> dict[str, Any]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", self._prefix + path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ApiError(f"cannot reach the Admin API at {self._url}: {reason}") from error
        finally:
            connection.close()
        return self._read(path, response, body)

    def _read(self, path: str, response: http.client.HTTPResponse, body: bytes) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if response.status == 200 and isinstance(document, dict):
            return document
        if isinstance(document, dict) and "error_message" in document:
            cause = f"{document['error_message']} ({document.get('error_code')})"
        else:
            cause = f"HTTP {response.status} {response.reason}, which is no answer of an Admin API"
        raise ApiError(f"{self._url}{path}: {cause}")

    def _no_admin_api(self, path: str) -> ApiError:
        return ApiError(f"{self._url}{path}: that is no answer of an Admin API")


def _is_worker(answer: Any) -> bool:
    if not isinstance(answer, dict) or not isinstance(answer.get("info"), dict):
        return False
    texts = [answer.get(name) for name in _TEXTS] + [answer["info"].get(name) for name in _INFO_TEXTS]
    return all(isinstance(text, str) for text in texts)
