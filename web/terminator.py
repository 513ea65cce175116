"""TLS in front of the server, for what the server's own does not tell: which names a client's certificate has."""

import asyncio
import logging
import os
import socket
import ssl
import tempfile
import threading
from asyncio.sslproto import SSLProtocol
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from pathlib import Path

from cryptography import x509

from amp_workers.web.listen import BACKLOG

_HANDSHAKE_SECONDS = 10
_DRAIN_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
_PIECE_BYTES = 256 * 1024

_log = logging.getLogger("amp_workers.web")


class _Tls(SSLProtocol):
    """asyncio's TLS, made fit for clients that do not belong here."""

    # asyncio has a buffer of 256 KiB for each connection, from the first byte of the greeting on: 8,000 clients that
    # say nothing would take 2 GB. One record of TLS is 16 KiB.
    max_size = 16 * 1024

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        # asyncio closes the connection before OpenSSL's alert is sent: a client would not be told what it lacks.
        if handshake_exc is not None:
            self._process_outgoing()  # type: ignore[attr-defined] # left out of its types
        super()._on_handshake_complete(handshake_exc)


class PrivateListener:
    """A Unix socket to listen on that nobody but this process, and those forked from it, can connect to."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        with tempfile.TemporaryDirectory(prefix="ampd-") as directory:
            path = Path(directory, "server")
            self.socket.bind(str(path))
            self.socket.listen(BACKLOG)
            # What is kept of it is no name in any directory, but an open file that the kernel follows to the socket.
            self._kept = os.open(path, os.O_PATH)

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self._kept}"


class Terminator:
    """Accepts TLS connections, and hands on to the server what comes from clients whose certificate has a certain name.

    It runs in a thread of the process that serves, from `start` until that process ends.
    """

    def __init__(
        self, listener: socket.socket, context: ssl.SSLContext, names: frozenset[str], server: str, connections: int
    ) -> None:
        """context: demands and verifies certificates. names: of which a certificate must have one, to the letter.
        server: the path of the Unix socket behind. connections: how many there may be at the same time; each opens up
        to three files.
        """
        self._listener, self._context, self._names = listener, context, names
        self._server, self._connections = server, connections
        self._relays: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Accept connections. To be called in the process that serves: a loop outlives no fork."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="terminator", daemon=True).start()
        # What is on its way to a client when the server has ended is to arrive.
        Finalize(self, self._drain, exitpriority=1)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()

    async def _accept(self) -> None:
        self._listener.setblocking(False)
        places = asyncio.Semaphore(self._connections)
        while True:
            await places.acquire()
            try:
                connection, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                # The client is gone already, or there is no file left to open: who waits goes on waiting.
                places.release()
                _log.warning("a connection could not be accepted: %s", error.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            relay = self._loop.create_task(self._serve(connection, address[0]))
            self._relays.add(relay)
            relay.add_done_callback(self._relays.discard)
            relay.add_done_callback(lambda _: places.release())

    async def _serve(self, connection: socket.socket, client: str) -> None:
        reader = asyncio.StreamReader(_PIECE_BYTES, self._loop)
        opened: list[asyncio.StreamWriter] = []
        protocol = asyncio.StreamReaderProtocol(reader, lambda _, writer: opened.append(writer), self._loop)
        greeted: asyncio.Future[None] = self._loop.create_future()
        tls = _Tls(
            self._loop,
            protocol,
            self._context,
            greeted,
            server_side=True,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
        )
        try:
            await self._loop.connect_accepted_socket(lambda: tls, connection)
            await greeted
        except OSError:  # no TLS, no certificate, or not in time
            return
        if not opened:  # it was lost
            return
        (writer,) = opened
        if not self._is_let_in(writer, client):
            writer.transport.abort()
            return
        await self._relay(reader, writer)

    def _is_let_in(self, writer: asyncio.StreamWriter, client: str) -> bool:
        tls = writer.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True)
        names = names_of(shown) if shown else []
        if self._names.intersection(names):
            # OpenSSL verifies a certificate once in a session, and a client of TLS 1.2 may resume one for two hours.
            if not tls.session_reused or _is_valid(shown):
                return True
            _log.warning("%s was refused: its certificate has expired", client)
            return False
        _log.warning(
            "%s was refused: of client_allowed_sans, its certificate has none, but %s",
            client,
            ", ".join(map(repr, names)) or "no name at all",
        )
        return False

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            server_reader, server_writer = await asyncio.open_unix_connection(self._server, limit=_PIECE_BYTES)
            ways = [
                asyncio.create_task(_pump(reader, server_writer)),
                asyncio.create_task(_pump(server_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                server_writer.close()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def _drain(self) -> None:
        async def drain() -> None:
            self._accepting.cancel()
            if self._relays:
                await asyncio.wait(self._relays, timeout=_DRAIN_SECONDS)

        asyncio.run_coroutine_threadsafe(drain(), self._loop).result()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes, as fast as it is taken, until one side has ended."""
    with suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()


def _is_valid(certificate: bytes) -> bool:
    """Whether a certificate that was valid still is."""
    return x509.load_der_x509_certificate(certificate).not_valid_after_utc > datetime.now(UTC)


def names_of(certificate: bytes) -> list[str]:
    """Return the subject alternative names of the four kinds that exporter-toolkit compares, as it writes them.

    OpenSSL has verified the certificate; where it has an extension that nobody else can read, it has no name.
    """
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (
        ValueError,
        x509.DuplicateExtension,
        x509.ExtensionNotFound,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ):
        return []
    kinds = (x509.DNSName, x509.RFC822Name, x509.IPAddress, x509.UniformResourceIdentifier)
    return [str(name) for kind in kinds for name in names.get_values_for_type(kind)]
