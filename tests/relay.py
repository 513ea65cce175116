"""A network between a process of ours and PostgreSQL, which can be cut without a word."""

import contextlib
import socket
import threading

from metadata_db.embedded import EmbeddedPostgres


class Relay:
    """Passes everything on while `open` is set, and nothing while it is not: no reset, no error, silence."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._target = server.url.rpartition("host=")[2] + "/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        self._connections: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Of the server's database `postgres`, through this network."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def close(self) -> None:
        self.open.set()
        _shut(self._listener)
        self._listener.close()
        for client, target in self._connections:
            _shut(client)
            _shut(target)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as target:
            try:
                target.connect(self._target)
            except OSError:
                return  # PostgreSQL is away: a refusal, as good as one from the kernel
            self._connections.append((client, target))
            back = threading.Thread(target=self._pump, args=(target, client), daemon=True)
            back.start()
            self._pump(client, target)
            back.join()
            self._connections.remove((client, target))

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.open.wait()
                sink.sendall(data)
        # That a side hung up is news that does not get through either.
        self.open.wait()
        _shut(source)
        _shut(sink)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
