"""Whether a server that refused a session is starting up or shutting down."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.pq.abc import PGconn

_TIMEOUT_SECONDS = 2.0
_PROTOCOL_VERSION = 196_608  # 3.0
_CANNOT_CONNECT_NOW = b"57P03"


def is_starting_or_stopping(failed: PGconn) -> bool:
    """Open a session with the same server, and read the SQLSTATE of its answer.

    libpq does not expose the SQLSTATE of a failed attempt, and its `PQping`, which checks it, blocks all threads of a
    Python process. PostgreSQL returns 57P03 before it checks TLS, role and database.
    """
    try:
        with _connected(failed) as server:
            server.sendall(_startup_packet(failed.user, failed.db))
            with server.makefile("rb") as answer:
                if answer.read(1) != b"E":
                    return False
                length = int.from_bytes(answer.read(4))
                fields = answer.read(length - 4).split(b"\0")
    except OSError:
        return False
    return b"C" + _CANNOT_CONNECT_NOW in fields


@contextmanager
def _connected(failed: PGconn) -> Iterator[socket.socket]:
    host, address, port = (part.decode() for part in (failed.host, failed.hostaddr, failed.port))
    if host.startswith(("/", "@")):
        path = f"{host}/.s.PGSQL.{port}"
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(_TIMEOUT_SECONDS)
            server.connect("\0" + path[1:] if path.startswith("@") else path)
            yield server
    else:
        with socket.create_connection((address or host, int(port)), _TIMEOUT_SECONDS) as server:
            yield server


def _startup_packet(user: bytes, database: bytes) -> bytes:
    parameters = b"user\0%b\0database\0%b\0\0" % (user, database)
    return (8 + len(parameters)).to_bytes(4) + _PROTOCOL_VERSION.to_bytes(4) + parameters
