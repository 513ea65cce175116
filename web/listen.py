"""The address that a server listens on."""

import socket
from dataclasses import dataclass
from typing import Self


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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def __str__(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def is_loopback(self) -> bool:
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def resolve(self) -> Self:
        """Return the address with its host name looked up, after a try to listen there.

        The server itself binds with SO_REUSEPORT: two of them on one port would share the requests, and neither
        would say so.

        Raises:
            AddressInUse: another process listens there, or this one may not.
        """
        try:
            family, kind, protocol, _, peer = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(peer)
                probe.listen(1)
        except OSError as error:
            raise AddressInUse(f"cannot listen on {self}: {error.strerror or error}") from error
        return type(self)(str(peer[0]), self.port)
