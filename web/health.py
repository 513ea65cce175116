"""The two questions that an orchestrator asks a process, with the paths that Prometheus's own servers have."""

from collections.abc import Callable

from flask import Blueprint, Response

from amp_workers.web.readiness import Readiness

OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
"""What everybody may ask: a kubelet has no credentials."""


def health(ready: Callable[[], None], warning: Callable[[], str | None] = lambda: None) -> Blueprint:
    """Return `/-/healthy`, which answers as long as the process serves, and `/-/ready`.

    ready: raises where the process could not do its work now; the application's own handler answers that.
    warning: returns what `/-/ready` adds for a process that is ready.
    """
    readiness = Readiness(ready)
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/-/healthy")
    def healthy() -> Response:
        return _text("OK\n")

    @blueprint.get("/-/ready")
    def is_ready() -> Response:
        readiness.check()
        found = warning()
        return _text("ready\n" if found is None else f"ready; {found}\n")

    return blueprint


def _text(body: str) -> Response:
    return Response(body, content_type="text/plain; charset=utf-8")
