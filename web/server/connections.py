"""Connections: accepting them, TLS handshakes, and draining."""

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress

from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import IOStream, SSLIOStream

from amp_workers.web.auth.authenticator import Peer
from amp_workers.web.policy import Policy
from amp_workers.web.server.application import Application
from amp_workers.web.server.exchange import Exchange, Exchanges
from amp_workers.web.server.handshake_log import HandshakeLog
from amp_workers.web.tls.client_certificate import refusal, subject

_IDLE_SECONDS = 10.0
"""For a TLS handshake, for the head of a request, for its body, and between two requests."""

_HEADER_BYTES = 64 * 1024

_MAX_CONNECTIONS = 16_384
_OTHER_FILES = 256
"""File descriptors for everything but connections."""

_AT_ONCE = 16
"""Connections per turn of the event loop: a storm of new ones does not stop those that exist."""

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
        response_seconds: float = 120.0,
    ) -> None:
        self._policy, self._listeners = policy, listeners
        self._exchanges = Exchanges(application, response_seconds)
        limits = {"idle_connection_timeout": _IDLE_SECONDS, "body_timeout": _IDLE_SECONDS}
        self._http = _HttpServer(self, max_header_size=_HEADER_BYTES, **limits)
        self._peers: dict[IOStream, Peer] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._handshake_log = HandshakeLog()
        self._loop = asyncio.get_running_loop()
        self._room = _connection_limit()
        self._pauses = True

    def accept(self) -> None:
        """Accept, from now on or again after a pause."""
        if self._pauses and not self._exchanges.draining:
            self._pauses = False
            for listener in self._listeners:
                listener.setblocking(False)
                self._loop.add_reader(listener, self._accept, listener, _AT_ONCE)

    async def drain(self, seconds: float) -> None:
        """Accept no more connections, let running responses end within so many seconds, then close all connections."""
        self._exchanges.draining = True
        self._pause()
        for listener in self._listeners:
            self._accept(listener, self._room)  # those that wait in the kernel
            listener.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.sleep(_LAST_REQUESTS_SECONDS)
                while self._exchanges.running:
                    await asyncio.wait(self._exchanges.running)
        for handshake in self._handshakes:
            handshake.cancel()
        self._handshake_log.flush()
        await self._http.close_all_connections()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        assert isinstance(server_conn, HTTP1ServerConnection)
        assert isinstance(request_conn, HTTP1Connection)
        return Exchange(self._exchanges, request_conn, self._peers[server_conn.stream])

    def on_close(self, server_conn: object) -> None:
        assert isinstance(server_conn, HTTP1ServerConnection)
        del self._peers[server_conn.stream]
        self._release()

    def _accept(self, listener: socket.socket, at_once: int) -> None:
        for _ in range(at_once):
            if self._room <= 0:
                self._pause()
                return
            try:
                connection, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no file descriptor, or no memory
                _log.warning("a connection could not be accepted: %s", error.strerror)
                self._pause()
                self._loop.call_later(_PAUSE_SECONDS, self.accept)
                return
            self._room -= 1
            # The configuration of this moment: a reload replaces it for connections that are accepted from then on.
            peer = Peer(address[0], None, self._policy.config)
            if peer.config.tls is None:
                self._serve(IOStream(connection), peer)
            else:
                handshake = self._loop.create_task(self._shake_hands(connection, peer, peer.config.tls.context))
                self._handshakes.add(handshake)
                handshake.add_done_callback(self._handshakes.discard)

    def _pause(self) -> None:
        self._pauses = True
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _release(self) -> None:
        self._room += 1
        self.accept()

    def _serve(self, stream: IOStream, peer: Peer) -> None:
        self._peers[stream] = peer
        self._http.handle_stream(stream, (peer.address, 0))

    async def _shake_hands(self, connection: socket.socket, peer: Peer, context: ssl.SSLContext) -> None:
        closing: socket.socket | SSLIOStream | None = connection
        assert peer.config.tls is not None
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                # Until the first byte a connection has no TLS state, which takes 50 KB.
                await _readable(connection)
                encrypted = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                closing = stream = SSLIOStream(encrypted)
                await stream.wait_for_handshake()
            certificate = encrypted.getpeercert() or {}
            refused = refusal(certificate, peer.config.tls.settings, resumed=bool(encrypted.session_reused))
            if refused is None:
                self._serve(stream, Peer(peer.address, subject(certificate) if certificate else None, peer.config))
                closing = None
            else:
                self._handshake_log.add(peer.address, refused)
        except ssl.SSLError as error:
            self._handshake_log.add(peer.address, f"{error}")
        except (OSError, ValueError, AttributeError):
            pass  # the client has gone, or sent nothing for too long; see SSLIOStream for the last two
        finally:
            if closing is not None:
                closing.close()
                self._release()


class _HttpServer(HTTPServer):
    """Tells its delegate of a closed connection as well, which Tornado's own does not."""

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        assert isinstance(self.request_callback, HTTPServerConnectionDelegate)
        self.request_callback.on_close(server_conn)


async def _readable(connection: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    connection.setblocking(False)
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)


def _connection_limit() -> int:
    """Raise the limit of open files as far as connections need it, and return how many connections fit into it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_CONNECTIONS + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(32, limit - _OTHER_FILES)
