"""The headers of every response, which forbid caching, and the compression of large ones."""

from flask import Flask, Response, request

from amp_workers.web import compress

_COMPRESSED_FROM_BYTES = 1_000
"""A smaller body fits into one packet without compression."""


def register_http_headers(app: Flask) -> None:
    """Set the headers of every response of the application."""

    @app.after_request
    def finish(response: Response) -> Response:
        # The ETag of /workers does not cover active heartbeats. A cache that revalidates with it, for a client that
        # does not use ETags, would serve outdated heartbeats.
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.vary.add("Accept-Encoding")
        body = response.get_data()
        if not body:
            response.headers.pop("Content-Type", None)
        if len(body) >= _COMPRESSED_FROM_BYTES and request.accept_encodings["gzip"] > 0:
            response.set_data(b"".join(compress([body])))
            response.content_encoding = "gzip"
        return response
