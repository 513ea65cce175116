"""The receiver of notifications: a webhook that Alertmanager calls."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Notification:
    """One alert of one request to the webhook."""

    at: float
    """`time.monotonic()` when the request arrived."""

    alert: str
    firing: bool
    """False if the alert is resolved."""

    node_id: str | None
    text: str


class Webhook:
    """Stores the notifications that it receives."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._received: list[Notification] = []
        self._lock = threading.Lock()

    def receive(self, request: dict[str, Any]) -> None:
        now = time.monotonic()
        with self._lock:
            self._received += [
                Notification(
                    now,
                    alert["labels"]["alertname"],
                    alert["status"] == "firing",
                    alert["labels"].get("node_id"),
                    alert["annotations"]["summary"],
                )
                for alert in request["alerts"]
            ]

    def since(self, moment: float) -> list[Notification]:
        with self._lock:
            return [notification for notification in self._received if notification.at >= moment]

    def first(self, alert: str, firing: bool, since: float, node_id: str | None = None) -> Notification | None:
        """Return the first notification since a moment that an alert fires or is resolved."""
        return next(
            (
                notification
                for notification in self.since(since)
                if (notification.alert, notification.firing) == (alert, firing)
                and node_id in {None, notification.node_id}
            ),
            None,
        )

    def alerts(self, since: float) -> set[str]:
        """Return the names of the alerts that fired since a moment."""
        return {notification.alert for notification in self.since(since) if notification.firing}


@contextmanager
def listening(webhook: Webhook) -> Iterator[Webhook]:
    """Serve the webhook on its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            webhook.receive(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class has
            pass

    with ThreadingHTTPServer(("127.0.0.1", webhook.port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield webhook
        server.shutdown()
