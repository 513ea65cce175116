"""The address that a server listens on."""

import socket
from dataclasses import dataclass
from typing import Self

BACKLOG = 1024
"""Connections that may wait to be accepted."""


class AddressInUse(Exception):
    """Nothing can listen there; the message names the address and the reason."""


@dataclass(frozen=True)
class ListenAddress:
    """A host and a port, written `127.0.0.1:1610`, `[::1]:1610`, or `:1610` for every address of the machine."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            ValueError: it is none; the message says what is wrong.
        """
        host, separator, port = text.rpartition(":")
        if not separator or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"'{text}' is no HOST:PORT with a port from 1 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"'{text}': an IPv6 address goes in brackets, as in [::1]:{port}")
        return cls("0.0.0.0" if host in {"", "*"} else host, int(port))  # noqa: S104 - it was asked for

    @property
    def url(self) -> str:
        return f"http://{self}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def listen(self) -> socket.socket:
        """Return a socket that listens there.

        Raises:
            AddressInUse: another process listens there, or this one may not.
        """
        listener: socket.socket | None = None
        try:
            family, kind, protocol, _, peer = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Its connections inherit this. Head and body of an answer may be written one after the other: Nagle's
            # algorithm would keep the body back until the client's kernel acknowledges the head, 40 ms later.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.bind(peer)
            listener.listen(BACKLOG)
        except OSError as error:
            if listener is not None:
                listener.close()
            raise AddressInUse(f"cannot listen on {self}: {error.strerror or error}") from error
        return listener
