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
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Of the server's database `postgres`, through this network."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                target = socket.socket(socket.AF_UNIX)
                target.connect(self._target)
                self._sockets += [client, target]
                for source, sink in ((client, target), (target, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.open.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.open.set()
        for each in self._sockets:
            each.close()
