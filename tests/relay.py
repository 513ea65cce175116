"""A network in front of a server: a test can freeze it silently, and it records the data of clients."""

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
    """Listens on a port of 127.0.0.1, and relays all data to a server: the path of a Unix socket, or host and port."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self.target = target
        """A test may change it: later connections lead to the new target."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.open = threading.Event()
        """While it is cleared, no data passes and no error occurs. Data that was sent arrives once it is set again."""
        self.open.set()
        self.freezes_at: bytes | None = None
        """When a client sends this text, `open` is cleared before the text passes, once."""
        self._gates = [self.open]
        self.flights: list[bytes] = []
        """The data that clients sent, one item per read."""
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client, self.open), daemon=True).start()

    def _serve(self, client: socket.socket, gate: threading.Event) -> None:
        # A frozen network relays no new connection. Clients that gave up meanwhile are dropped.
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
        # A frozen network does not pass the end of a connection either.
        gate.wait()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def forsake(self) -> None:
        """Let new connections through, and keep the connections of the frozen network frozen."""
        self.open = threading.Event()
        self.open.set()
        self._gates.append(self.open)

    def reset(self) -> None:
        """Reset each connection with the server."""
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
        return True  # the relay was closed, and this socket with it
    return bool(poll.poll(0))
