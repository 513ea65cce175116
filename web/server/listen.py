"""The address that a server listens on."""

import ipaddress
import socket
from dataclasses import dataclass
from typing import Self

_BACKLOG = 1024
"""Connections that may wait to be accepted."""

_UNREAD_MS = 30_000
"""The kernel ends a connection whose client has acknowledged nothing for so long."""


class AddressInUse(Exception):
    """Nothing can listen there; the message names the address and the reason."""


@dataclass(frozen=True)
class ListenAddress:
    """A host and a port, written `127.0.0.1:1610`, `[::1]:1610`, or `:1610` for every address of the machine."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address.

        Raises:
            ValueError: the text is not an address; the message names the mistake.
        """
        host, separator, port = text.rpartition(":")
        if not separator or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"'{text}' is no HOST:PORT with a port from 1 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"'{text}': an IPv6 address goes in brackets, as in [::1]:{port}")
        return cls("0.0.0.0" if host in {"", "*"} else host, int(port))  # noqa: S104 - the user asked for it

    @property
    def url(self) -> str:
        return f"http://{self}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def listen(self) -> socket.socket:
        """Return a socket that listens there.

        Raises:
            AddressInUse: another process listens there, or this process may not.
        """
        listener: socket.socket | None = None
        try:
            family, kind, protocol, _, peer = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Connections inherit both options. Nagle's algorithm would delay a body that is written after its head by
            # 40 ms, until the client's kernel acknowledges the head.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
            listener.bind(peer)
            listener.listen(_BACKLOG)
        except OSError as error:
            if listener is not None:
                listener.close()
            raise AddressInUse(f"cannot listen on {self}: {error.strerror or error}") from error
        return listener


def is_exposed(listener: socket.socket) -> bool:
    """Return whether other machines can reach a listening socket."""
    return not ipaddress.ip_address(listener.getsockname()[0]).is_loopback
