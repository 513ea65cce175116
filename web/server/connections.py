"""Connections: accepting them, TLS handshakes, and draining."""

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import IOStream, SSLIOStream

from amp_workers.web.auth.authenticator import Peer
from amp_workers.web.policy import Policy
from amp_workers.web.server.application import Application
from amp_workers.web.server.exchange import Exchange, Exchanges
from amp_workers.web.server.handshake_log import HandshakeLog
from amp_workers.web.server.listen import peer_address
from amp_workers.web.tls.client_certificate import refusal, subject
from amp_workers.web.tls.context import Tls

_IDLE_SECONDS = 10.0
"""For a TLS handshake, for the head of a request, and between two requests."""

_BODY_SECONDS = 2.0
"""For the body of a request, after its response."""

_LIMITS = HTTP1ConnectionParameters(max_header_size=64 * 1024, header_timeout=_IDLE_SECONDS, body_timeout=_BODY_SECONDS)

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
        self._free = asyncio.Semaphore(_connection_limit())
        self._open: set[HTTP1ServerConnection] = set()
        self._handshake_log = HandshakeLog()
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()

    def accept(self) -> None:
        """Accept connections from now on."""
        for listener in self._listeners:
            listener.setblocking(False)
            self._accepting.append(asyncio.create_task(self._accept(listener)))

    async def drain(self, seconds: float) -> None:
        """Accept no more connections, let running responses end within so many seconds, then close all connections."""
        self._exchanges.draining = True
        # Connections that wait in the kernel are accepted, and requests that it has received are answered.
        await asyncio.sleep(_LAST_REQUESTS_SECONDS)
        for task in self._accepting:
            task.cancel()
        await asyncio.wait(self._accepting)
        for listener in self._listeners:
            listener.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._exchanges.running:
                    await asyncio.sleep(_LAST_REQUESTS_SECONDS)
        self._handshake_log.flush()
        for task in self._handshakes:
            task.cancel()
        for connection in list(self._open):
            connection.stream.close()

    def start_request(self, _: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        assert isinstance(request_conn, HTTP1Connection)
        assert isinstance(request_conn.context, Peer)
        return Exchange(self._exchanges, request_conn, request_conn.context)

    def on_close(self, server_conn: object) -> None:
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._open.remove(server_conn)
        self._free.release()

    async def _accept(self, listener: socket.socket) -> None:
        for number in count(1):
            await self._free.acquire()
            try:
                connection, name = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:
                self._free.release()
                if not isinstance(error, ConnectionAbortedError):  # no file descriptor, or no memory
                    _log.warning("a connection could not be accepted: %s", error.strerror)
                    await asyncio.sleep(_PAUSE_SECONDS)
                continue
            # The configuration of this moment: a reload replaces it for connections that are accepted from then on.
            peer = Peer(peer_address(name), None, self._policy.config)
            if peer.config.tls is None:
                self._serve(IOStream(connection), peer)
            else:
                handshake = asyncio.create_task(self._shake_hands(connection, peer, peer.config.tls))
                self._handshakes.add(handshake)
                handshake.add_done_callback(self._handshakes.discard)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _serve(self, stream: IOStream, peer: Peer) -> None:
        connection = HTTP1ServerConnection(stream, _LIMITS, peer)
        self._open.add(connection)
        connection.start_serving(self)

    async def _shake_hands(self, connection: socket.socket, peer: Peer, tls: Tls) -> None:
        closing: socket.socket | SSLIOStream | None = connection
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                # Until the first byte a connection has no TLS state, which takes 50 KB.
                await _readable(connection)
                encrypted = tls.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                closing = stream = SSLIOStream(encrypted)
                await stream.wait_for_handshake()
            certificate = encrypted.getpeercert() or {}
            refused = refusal(certificate, tls.settings, resumed=bool(encrypted.session_reused))
            if refused is None:
                self._serve(stream, peer._replace(subject=subject(certificate) if certificate else None))
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
                self._free.release()


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
    wanted = _MAX_CONNECTIONS + _OTHER_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(32, limit - _OTHER_FILES)
