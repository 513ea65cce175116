"""HTML pages: each is one response, which loads nothing else."""

import base64
from hashlib import sha256
from importlib.resources import files
from typing import Any

from flask import Response
from jinja2 import Environment, PackageLoader, StrictUndefined

_TEMPLATES = files("amp_workers.admin") / "templates"

environment = Environment(
    loader=PackageLoader("amp_workers.admin"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.policies["json.dumps_kwargs"] = {"sort_keys": False}


def template_text(name: str) -> str:
    """Return a style sheet or a script, which a page contains."""
    return (_TEMPLATES / name).read_text()


def content_security_policy(style: str, script: str | None = None) -> str:
    """Return the policy of a page with one style sheet, and one script or none, both in its own text.

    The page may load nothing from another host. Only the script may send requests, to its own server.
    """
    sources = [
        "default-src 'none'",
        f"style-src '{_digest(style)}'",
        *([f"script-src '{_digest(script)}'", "connect-src 'self'", "img-src data:"] if script is not None else []),
        "base-uri 'none'",
        "form-action 'self'" if script is not None else "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return "; ".join(sources)


def html_response(body: str, policy: str, status: int = 200) -> Response:
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "same-origin"}
    return Response(body, status, content_type="text/html; charset=utf-8", headers=headers)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def render(template: str, **values: Any) -> str:
    return environment.get_template(template).render(values)
