"""One request and its response, over a connection of Tornado's."""

import asyncio
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from io import BytesIO
from urllib.parse import unquote_to_bytes

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError

from amp_workers.web.auth.authenticator import Peer
from amp_workers.web.server.application import Answer, Application, Environ

_BLOCK_BYTES = 256 * 1024
"""Written at a time. Between two blocks other connections have their turn: `/-/healthy` takes 156 ms at the 99th
percentile without that, and 27 ms with it."""

_LARGE_RESPONSE, _MAX_UNSENT = 2**20, 256 * 2**20
"""Bytes. Large responses are refused while so much is unsent, because clients read slowly."""

_LARGE_BODY = 16 * 1024
"""A request with a larger body is answered before its end: no endpoint uses one."""

_LINGER_BYTES, _LINGER_SECONDS = 2**20, 1.0
"""Of a larger body, so much is read after the response: a reset of the connection could destroy that otherwise."""

_log = logging.getLogger("amp_workers.web")


@dataclass
class Exchanges:
    """What all exchanges of a server share.

    response_seconds: to send one response; a client that reads a little now and then is cut off after so long. unsent:
    bytes of large responses.
    """

    application: Application
    response_seconds: float
    unsent: int = 0
    running: set[asyncio.Task[None]] = field(default_factory=set)
    draining: bool = False


class Exchange(HTTPMessageDelegate):
    """Reads a request, has it answered, and sends the response."""

    def __init__(self, shared: Exchanges, connection: HTTP1Connection, peer: Peer) -> None:
        self._shared, self._connection, self._peer = shared, connection, peer
        self._received = 0
        self._body_ended = asyncio.Event()
        self._is_answered = False

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        assert isinstance(start_line, RequestStartLine)
        self._method, self._environ = start_line.method, _environ(start_line, headers, self._peer)
        self._connection.set_max_body_size(2**62)
        length = headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and (len(length) > 9 or int(length) > _LARGE_BODY):
            self._answer()

    def data_received(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > _LARGE_BODY:
            self._answer()
        if self._received > _LINGER_BYTES:
            self._body_ended.set()

    def finish(self) -> None:
        self._body_ended.set()
        self._answer()

    def on_connection_close(self) -> None:
        self._body_ended.set()

    def _answer(self) -> None:
        if not self._is_answered:
            self._is_answered = True
            task = asyncio.get_running_loop().create_task(self._respond())
            self._shared.running.add(task)
            task.add_done_callback(self._shared.running.discard)

    async def _respond(self) -> None:
        application = self._shared.application
        answer = await application.answer(self._environ, self._peer)
        size = answer.size if answer.size > _LARGE_RESPONSE else 0
        if size and self._shared.unsent and self._shared.unsent + size > _MAX_UNSENT:
            answer, size = application.refuse(self._environ), 0
        self._shared.unsent += size
        try:
            await self._send(answer)
        except (StreamClosedError, TimeoutError):
            self._connection.close()  # the client has gone, or reads too slowly
        finally:
            self._shared.unsent -= size

    async def _send(self, answer: Answer) -> None:
        code, _, reason = answer.status.partition(" ")
        headers = _LowerCaseHeaders({"Date": formatdate(usegmt=True)})
        for name, value in answer.headers:
            headers.add(name, value)
        if self._method != "HEAD" and code not in {"204", "304"}:
            headers["Content-Length"] = str(answer.size)
        is_early = not self._body_ended.is_set()
        if is_early or self._shared.draining:
            headers["Connection"] = "close"
        blocks = _blocks(answer.pieces)
        async with asyncio.timeout(self._shared.response_seconds):
            start_line = ResponseStartLine("HTTP/1.1", int(code), reason)
            await self._connection.write_headers(start_line, headers, next(blocks))
            for block in blocks:
                await self._connection.write(block)
                await asyncio.sleep(0)
        if is_early:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._body_ended.wait(), _LINGER_SECONDS)
        self._connection.finish()
        if self._shared.draining:
            self._connection.close()


class _LowerCaseHeaders(HTTPHeaders):
    """Writes names in lower case, as HTTP/2 has them: scripts may search for them so."""

    def get_all(self) -> Iterable[tuple[str, str]]:
        return ((name.lower(), value) for name, value in super().get_all())


def _blocks(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """Join and cut the pieces of a body to blocks of about the same size. The last may be empty."""
    block = bytearray()
    for piece in pieces:
        for start in range(0, len(piece), _BLOCK_BYTES):
            block += memoryview(piece)[start : start + _BLOCK_BYTES]
            if len(block) >= _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    yield bytes(block)


_OF_A_BODY = {"content-length", "content-type", "transfer-encoding"}


def _environ(start_line: RequestStartLine, headers: HTTPHeaders, peer: Peer) -> Environ:
    """Return the WSGI environment of a request (PEP 3333), without its body.

    `REQUEST_URI` is the request's target as it was sent, `REMOTE_ADDR` the peer's address, and `SSL_CLIENT_S_DN` the
    subject of its verified certificate, as in Apache.
    """
    path, _, query = start_line.path.partition("?")
    if not path.startswith("/"):  # RFC 9112 allows the absolute form, `GET http://host/path`
        path = "/" + path.partition("://")[2].partition("/")[2]
    scheme = "https" if peer.config.tls is not None else "http"
    environ: Environ = {"wsgi.version": (1, 0), "wsgi.url_scheme": scheme, "wsgi.input": BytesIO()}
    environ |= {"wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False}
    environ |= {"REQUEST_METHOD": start_line.method, "SERVER_PROTOCOL": start_line.version, "QUERY_STRING": query}
    environ |= {"SCRIPT_NAME": "", "REQUEST_URI": start_line.path}
    environ |= {"PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1")}
    environ |= {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "REMOTE_ADDR": peer.address}
    if peer.subject is not None:
        environ["SSL_CLIENT_S_DN"] = peer.subject
    for name in headers:
        # `X-A` and `X_A` would be the same variable, so that one could pose as the other.
        if "_" not in name and name.lower() not in _OF_A_BODY:
            environ["HTTP_" + name.replace("-", "_").upper()] = ",".join(headers.get_list(name))
    return environ
