"""`/-/healthy` and `/-/ready`, the endpoints for an orchestrator, with the paths of Prometheus's own servers."""

from collections.abc import Callable

from flask import Blueprint, Response

HEALTHY, READY = "/-/healthy", "/-/ready"
"""Without authentication: a kubelet has no credentials."""


def health(check: Callable[[], None], warning: Callable[[], str | None] = lambda: None) -> Blueprint:
    """Return the two endpoints. `/-/healthy` returns 200 as long as the process serves.

    check: raises an error where the process cannot do its work now; the application's own handler responds to it.
    warning: returns what `/-/ready` adds for a process that is ready.
    """
    blueprint = Blueprint("health", __name__)

    @blueprint.get(HEALTHY)
    def healthy() -> Response:
        return Response("OK\n", content_type="text/plain; charset=utf-8")

    @blueprint.get(READY)
    def is_ready() -> Response:
        check()
        found = warning()
        return Response("ready\n" if found is None else f"ready; {found}\n", content_type="text/plain; charset=utf-8")

    return blueprint
