"""The HTML documents of the fleet page: one renderer, for pages and for errors."""

from hashlib import sha256
from http import HTTPStatus
from typing import Any

from flask import Response, request

from amp_workers.admin.html import content_security_policy, html_response, render, template_text
from amp_workers.admin.page.shared_fleet import REFRESH_SECONDS

_STYLE, _SCRIPT = template_text("page.css"), template_text("page.js")

_POLICY = content_security_policy(_STYLE, _SCRIPT)

_BUILD = sha256((_STYLE + _SCRIPT).encode()).hexdigest()[:16]
"""Changes with the style sheet and the script: an open page then loads itself again."""


def is_page(path: str) -> bool:
    """Return whether a path is one of the fleet page. All its answers are HTML."""
    return path == "/" or path.startswith("/w/")


def show(template: str, status: int = 200, **values: Any) -> Response:
    """Return a document."""
    shared = {"style": _STYLE, "script": _SCRIPT, "build": _BUILD, "root": _root(), "interval": REFRESH_SECONDS}
    return html_response(render(template, **shared, **values), _POLICY, status)


def show_error(status: int, message: str) -> Response:
    """Return an error as a document."""
    return show("error.html", status, number=status, name=HTTPStatus(status).phrase, message=message)


def _root() -> str:
    """Return the relative URL of the fleet. Not `/`: a proxy may serve the page below a prefix."""
    # As it was sent: the server decodes %2F, and the browser does not.
    sent = request.environ.get("REQUEST_URI", request.path).partition("?")[0]
    return "../" * (sent.count("/") - 1) or "."
