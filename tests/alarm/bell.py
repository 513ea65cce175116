"""The on-call operator's end of the line: a webhook that Alertmanager calls."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Ring:
    """One alert of one notification."""

    at: float
    """`time.monotonic()` when the notification arrived."""

    alert: str
    firing: bool
    """False when it told that all is well again."""

    node_id: str | None
    text: str


class Bell:
    """Remembers what rang."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._rings: list[Ring] = []
        self._notifications = 0
        self._lock = threading.Lock()

    def ring(self, notification: dict[str, Any]) -> None:
        now = time.monotonic()
        with self._lock:
            self._notifications += 1
            self._rings += [
                Ring(
                    now,
                    alert["labels"]["alertname"],
                    alert["status"] == "firing",
                    alert["labels"].get("node_id"),
                    alert["annotations"]["summary"],
                )
                for alert in notification["alerts"]
            ]

    def since(self, moment: float) -> list[Ring]:
        with self._lock:
            return [ring for ring in self._rings if ring.at >= moment]

    def first(self, alert: str, firing: bool, since: float, node_id: str | None = None) -> Ring | None:
        """Return the first time that an alert rang, or was taken back, since a moment."""
        return next(
            (
                ring
                for ring in self.since(since)
                if (ring.alert, ring.firing) == (alert, firing) and node_id in {None, ring.node_id}
            ),
            None,
        )

    def alerts(self, since: float) -> set[str]:
        """Return the names of all alerts that rang since a moment."""
        return {ring.alert for ring in self.since(since) if ring.firing}


@contextmanager
def listening(bell: Bell) -> Iterator[Bell]:
    """Answer Alertmanager on the bell's port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bell.ring(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class has
            pass

    with ThreadingHTTPServer(("127.0.0.1", bell.port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield bell
        server.shutdown()
