"""Connections: accepting them, TLS handshakes, and draining."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import IOStream, SSLIOStream

from amp_workers.web.auth.authenticator import Peer
from amp_workers.web.policy import Policy
from amp_workers.web.server.application import Application
from amp_workers.web.server.exchange import Exchange
from amp_workers.web.server.handshake_log import HandshakeLog
from amp_workers.web.tls.client_certificate import check, subject

_IDLE_SECONDS = 10.0
"""For a TLS handshake, for the head of a request, and between two requests."""

_BODY_SECONDS = 2.0
"""For the body of a request, after its response."""

_LIMITS = HTTP1ConnectionParameters(max_header_size=64 * 1024, header_timeout=_IDLE_SECONDS, body_timeout=_BODY_SECONDS)

_UNREAD_MS = 30_000
"""The kernel ends a connection whose client has acknowledged nothing for so long."""

_PAUSE_SECONDS = 1.0
_LAST_REQUESTS_SECONDS = 0.05
"""From SIGTERM on, for requests that the kernel has received already."""

_log = logging.getLogger("amp_workers.web")


class Connections(HTTPServerConnectionDelegate):
    """All connections of a server, from the moment when they are accepted.

    asyncio's own accept loop, and Tornado's, run at full speed while no file descriptor is free, and log each attempt.
    """

    def __init__(
        self,
        application: Application,
        policy: Policy,
        listeners: Sequence[socket.socket],
        max_connections: int,
        response_seconds: float = 120.0,
    ) -> None:
        """response_seconds: to send one response."""
        self._application, self._policy, self._listeners = application, policy, listeners
        self._max_connections, self._response_seconds = max_connections, response_seconds
        self._open: set[HTTP1ServerConnection | asyncio.Task[None]] = set()
        """Connections, and tasks of TLS handshakes."""
        self._handshake_log = HandshakeLog()

    def accept(self) -> None:
        """Accept connections from now on, one of each listener per turn of the event loop."""
        for listener in self._listeners:
            listener.setblocking(False)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)  # connections inherit it
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def drain(self, seconds: float) -> None:
        """Accept no more connections, and let running responses end within so many seconds."""
        self._application.draining = True
        # Connections that wait in the kernel are accepted, and requests that it has received are answered.
        await asyncio.sleep(_LAST_REQUESTS_SECONDS)
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._listeners = ()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._application.running:
                    await asyncio.sleep(_LAST_REQUESTS_SECONDS)
        self._handshake_log.flush()

    def start_request(self, _: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        assert isinstance(request_conn, HTTP1Connection)
        return Exchange(self._application, self._response_seconds, request_conn)

    def on_close(self, server_conn: object) -> None:
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._open.remove(server_conn)

    def _pause(self, reason: str) -> None:
        _log.warning("a connection could not be accepted: %s", reason)
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
        asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self.accept)

    def _accept(self, listener: socket.socket) -> None:
        if len(self._open) >= self._max_connections:
            self._pause("too many connections")
            return
        try:
            connection, name = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no file descriptor, or no memory
            self._pause(f"{error.strerror}")
            return
        connection.setblocking(False)
        # The configuration of this moment: a reload replaces it for connections that are accepted from then on.
        peer = Peer(peer_address(name), None, self._policy.config)
        if peer.config.tls is None:
            self._serve(IOStream(connection), peer)
        else:
            handshake = asyncio.create_task(self._shake_hands(connection, peer, peer.config.tls))
            self._open.add(handshake)
            handshake.add_done_callback(self._open.remove)

    def _serve(self, stream: IOStream, peer: Peer) -> None:
        connection = HTTP1ServerConnection(stream, _LIMITS, peer)
        self._open.add(connection)
        connection.start_serving(self)

    async def _shake_hands(self, connection: socket.socket, peer: Peer, context: ssl.SSLContext) -> None:
        closing: socket.socket | SSLIOStream | None = connection
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                # Until the first byte a connection has no TLS state, which takes 50 KB.
                await _readable(connection)
                encrypted = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                closing = stream = SSLIOStream(encrypted)
                await stream.wait_for_handshake()
            certificate = encrypted.getpeercert() or {}
            check(certificate, peer.config.client_allowed_sans, resumed=bool(encrypted.session_reused))
            self._serve(stream, peer._replace(subject=subject(certificate) if certificate else None))
            closing = None
        except ssl.SSLError as error:
            self._handshake_log.add(peer.address, f"{error}")
        except (OSError, ValueError, AttributeError):
            pass  # the client has gone, or sent nothing for too long; see SSLIOStream for the last two
        finally:
            if closing is not None:
                closing.close()


def peer_address(name: tuple[str, *tuple[int, ...]]) -> str:
    """Return the IP address of a peer's socket name. A socket for all addresses has IPv4 ones as `::ffff:192.0.2.1`."""
    return name[0].removeprefix("::ffff:")


async def _readable(connection: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
