"""The Admin API over HTTP, with the standard library alone: `ampctl` is called in shell loops and must start fast."""

import http.client
import json
from typing import Any
from urllib.parse import quote, urlsplit

TIMEOUT_SECONDS = 10.0


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
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidAdminUrl(f"'{url}' is no URL like http://localhost:1610")
        self._url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._host, self._port = parts.hostname, port
        self._secure = parts.scheme == "https"

    def workers(self) -> dict[str, Any]:
        """Return `{"workers": [worker, …]}`."""
        return self._get("/workers")

    def worker(self, node_id: str) -> dict[str, Any]:
        """Return one worker."""
        return self._get(f"/workers/{quote(node_id, safe='')}")

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
        except ValueError:
            document = None
        if response.status == 200 and isinstance(document, dict):
            return document
        if isinstance(document, dict) and "error_message" in document:
            cause = f"{document['error_message']} ({document.get('error_code')})"
        else:
            cause = f"HTTP {response.status} {response.reason}, which is no answer of an Admin API"
        raise ApiError(f"{self._url}{path}: {cause}")
