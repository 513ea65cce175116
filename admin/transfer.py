"""What every answer has, whatever it says: no cache keeps it, and a large one is packed."""

from flask import Flask, Response, request

from amp_workers.web import compress

_WORTH_PACKING = 1_000
"""Bytes: a smaller body fits into one packet as it is."""


def register_transfer(app: Flask) -> None:
    """Have the application send all its answers this way."""

    @app.after_request
    def finish(response: Response) -> Response:
        # It is of this moment. A cache that asked again with the tag of /workers, on behalf of a client that knows
        # nothing of it, would show heartbeats of long ago as those of now.
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.vary.add("Accept-Encoding")
        body = response.get_data()
        if not body:
            response.headers.pop("Content-Type", None)
        if len(body) >= _WORTH_PACKING and request.accept_encodings["gzip"] > 0:
            response.set_data(b"".join(compress([body])))
            response.content_encoding = "gzip"
        return response
