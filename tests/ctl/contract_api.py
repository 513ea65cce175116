"""A small server that follows the Admin API's contract, for tests that record its requests or break its responses.

It speaks HTTP over a socket. Every test with the fixture `api_url` runs its commands against the real API as well.
"""

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from amp_workers.ctl.fields import STATES, severity_of

Worker = dict[str, Any]


@dataclass
class ContractApi:
    """The data of the server, and the requests that it received."""

    workers: list[Worker]
    token: str | None = None
    """The valid Authorization header. None if no authentication is configured: then no worker can be removed."""

    in_use: set[str] = field(default_factory=set)
    silent: bool = False
    """Whether it closes each connection without a response."""

    says: tuple[int, Any] | None = None
    """A status and a body for all requests."""

    jobs: dict[str, Any] | None = None
    """The jobs of GET /fleet."""

    jobs_of: dict[str, list[dict[str, Any]] | None] = field(default_factory=dict)
    """The jobs of GET /workers/{id}/jobs, by node id; None where they are unknown."""

    asked: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, target: str, authorization: str | None) -> tuple[int, Any]:
        self.asked.append(f"{method} {target}")
        self.authorizations.append(authorization)
        if self.says is not None:
            return self.says
        parts = urlsplit(target)
        if self.token is not None and authorization != self.token:
            return 401, _error("UNAUTHORIZED", "a token is needed")
        if parts.path == "/openapi.json":
            return 200, {"info": {"version": "9.8.7"}}
        if parts.path == "/fleet":
            return 200, self._fleet()
        if parts.path == "/workers":
            return 200, self._page(**{name: values[0] for name, values in parse_qs(parts.query).items()})
        node_id = unquote(parts.path.removeprefix("/workers/"))
        return self._get(node_id) if method == "GET" else self.delete(node_id)

    def _fleet(self) -> dict[str, Any]:
        states = [worker["state"] for worker in self.workers]
        versions = [worker["info"]["version"] for worker in self.workers if worker["state"] in {"active", "stale"}]
        return {
            "workers": dict.fromkeys(STATES, 0) | {state: states.count(state) for state in states},
            "versions": {version: versions.count(version) for version in versions},
            "oldest_heartbeat_age_seconds": max((each["heartbeat_age_seconds"] for each in self.workers), default=None),
            "jobs": self.jobs,
            "thresholds": {"stale_after_seconds": 5.0, "lost_after_seconds": 60.0, "forget_after_seconds": 86_400.0},
        }

    def _get(self, node_id: str) -> tuple[int, Any]:
        if node_id.endswith("/jobs") and node_id.removesuffix("/jobs") in self.jobs_of:
            return 200, {"jobs": self.jobs_of[node_id.removesuffix("/jobs")]}
        for worker in self.workers:
            if worker["node_id"] == node_id:
                return 200, worker
        return 404, _error("WORKER_NOT_FOUND", f"no worker with node id '{node_id}' ever registered")

    def delete(self, node_id: str) -> tuple[int, Any]:
        if self.token is None:
            return 403, _error("AUTHENTICATION_REQUIRED", "no authentication is configured")
        status, found = self._get(node_id)
        if status == 404:
            return status, found
        if found["state"] in {"active", "stale"}:
            return 409, _error("WORKER_ALIVE", f"worker '{node_id}' is {found['state']}")
        if node_id in self.in_use:
            return 409, _error("WORKER_IN_USE", f"worker '{node_id}' is still referred to")
        self.workers.remove(found)
        return 204, None

    def _page(
        self,
        state: str = "",
        node_id: str = "",
        version: str = "",
        limit: str = "",
        after: str = "",
        sort: str = "node_id",
    ) -> dict[str, Any]:
        def key(worker: Worker) -> tuple[Any, ...]:
            first = {"state": severity_of(worker["state"]), "heartbeat": -abs(worker["heartbeat_age_seconds"])}
            return (first.get(sort, 0), str(worker["node_id"]))

        def token(worker: Worker) -> str:
            return f"{worker['state']}:{worker['node_id']}" if sort == "state" else str(worker["node_id"])

        after_state, _, after_id = after.rpartition(":")
        last = (severity_of(after_state) if after_state else 0, after_id)
        found = [
            worker
            for worker in sorted(self.workers, key=key)
            if (not state or worker["state"] in state.split(","))
            and any(fnmatchcase(str(worker["node_id"]), glob) for glob in (node_id or "*").split(","))
            and fnmatchcase(worker["info"]["version"], version or "*")
            and (not after or key(worker) > last)
        ]
        if not limit or len(found) <= int(limit):
            return {"workers": found}
        page = {"workers": found[: int(limit)]}
        return page if sort == "heartbeat" else page | {"next": token(found[int(limit) - 1])}


@contextlib.contextmanager
def serving(api: ContractApi, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[ContractApi]:
    """Serve an API in a `with` block, and set its `url`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            if api.silent:
                api.asked.append(f"{self.command} {self.path}")
                self.close_connection = True
                return
            status, body = api.answer(self.command, self.path, self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if body is not None:
                self.wfile.write(json.dumps(body).encode())

        do_GET = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A failed TLS handshake is not an error of the test."""

    server = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    api.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _error(code: str, message: str) -> dict[str, str]:
    return {"error_code": code, "error_message": message}


def a_worker(node_id: str, state: str = "active", age: float = 1.0, **more: Any) -> Worker:
    """Return a worker as the API does. `more` has additional fields, or `version`."""
    moments = {"created_at": "2025-01-01T12:00:00Z", "registered_at": "2025-01-15T16:45:30Z"}
    moments["heartbeat_at"] = "2025-01-15T17:20:15Z"
    info = {"version": more.pop("version", "v1"), "commit_sha": "c", "commit_timestamp": "t", "build_date": "b"}
    return {"node_id": node_id, "state": state, "heartbeat_age_seconds": age, **moments, **more, "info": info}
