"""The page at `/`, for the person who opens the exporter in a browser."""

from flask import Blueprint, Response
from markupsafe import escape

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Amp worker exporter</title></head>
<body>
<h1>Amp worker exporter</h1>
<p>Prometheus metrics of an Amp fleet's workers, read from its metadata DB. Version {version}.</p>
<ul>
<li><a href="{path}">Metrics</a></li>
<li><a href="-/healthy">Health</a>: this process serves HTTP</li>
<li><a href="-/ready">Readiness</a>: the metadata DB answers</li>
</ul>
</body>
</html>
"""


def landing(telemetry_path: str, version: str) -> Blueprint:
    """Return the route of the landing page.

    Its links are relative, so that they also work behind a proxy that serves the exporter below a prefix.
    """
    page = _PAGE.format(path=escape(telemetry_path.removeprefix("/")), version=escape(version))
    blueprint = Blueprint("landing", __name__)

    @blueprint.get("/")
    def show() -> Response:
        return Response(page, content_type="text/html; charset=utf-8")

    return blueprint
