"""A network in front of a server, of the test's own: it can be frozen silently, and records what went through."""

import contextlib
import select
import socket
import threading
from typing import Any

from amp_workers.metadata_db.embedded import EmbeddedPostgres


def socket_of(server: EmbeddedPostgres) -> str:
    """Return the path of a server's Unix socket."""
    return server.url.rpartition("host=")[2] + "/.s.PGSQL.5432"


class Relay:
    """Listens on a port of 127.0.0.1, and passes everything on to a server: a Unix socket's path, or host and port."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self.target = target
        """May be changed: connections that come later lead there."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.open = threading.Event()
        """Cleared, nothing goes through, with no error; what was sent arrives when it is set again."""
        self.open.set()
        self.freezes_at: bytes | None = None
        """What a client has to send for `open` to be cleared before it goes through, once."""
        self._gates = [self.open]
        self.flights: list[bytes] = []
        """What clients sent, as much as arrived at once in each."""
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client, self.open), daemon=True).start()

    def _serve(self, client: socket.socket, gate: threading.Event) -> None:
        # Nobody gets through a frozen network, and who gave up meanwhile is not heard of afterwards.
        gate.wait()
        target = None if _has_left(client) else self._connect()
        if target is not None:
            self._sockets.append(target)
            answers = threading.Thread(target=self._pump, args=(target, client, gate, None), daemon=True)
            answers.start()
            self._pump(client, target, gate, self.flights)
            answers.join()
            self._drop(target)
        self._drop(client)

    def _drop(self, connection: socket.socket) -> None:
        self._sockets.remove(connection)
        connection.close()

    def _connect(self) -> socket.socket | None:
        family: Any = socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET
        target = socket.socket(family)
        try:
            target.connect(self.target)
        except OSError:
            target.close()
            return None
        return target

    def _pump(
        self, source: socket.socket, sink: socket.socket, gate: threading.Event, flights: list[bytes] | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                gate.wait()
                if flights is not None:
                    flights.append(data)
                    if self.freezes_at is not None and self.freezes_at in data:
                        self.freezes_at = None
                        gate.clear()
                        gate.wait()
                sink.sendall(data)
        # The end of a connection does not go through a frozen network either.
        gate.wait()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def forsake(self) -> None:
        """Let new connections through, and leave those of a frozen network frozen."""
        self.open = threading.Event()
        self.open.set()
        self._gates.append(self.open)

    def reset(self) -> None:
        """Break every connection with the server."""
        for each in self._sockets[1:]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for gate in self._gates:
            gate.set()
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _has_left(client: socket.socket) -> bool:
    poll = select.poll()
    try:
        poll.register(client, select.POLLRDHUP)
    except ValueError:
        return True  # it was closed, with the relay
    return bool(poll.poll(0))
