"""Sockets that listen for connections."""

import ipaddress
import socket

from amp_workers.errors import AmpError

_BACKLOG = 1024
"""Connections that may wait to be accepted."""

_UNREAD_MS = 30_000
"""The kernel ends a connection whose client has acknowledged nothing for so long."""


class AddressInUse(AmpError):
    """Nothing can listen there. The message is the reason."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address. Raises AddressInUse."""
    listener: socket.socket | None = None
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = addresses[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit both options. Nagle's algorithm would delay a body that is written after its head by
        # 40 ms, until the client's kernel acknowledges the head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise AddressInUse(error.strerror or f"{error}") from error
    return listener


def peer_address(name: tuple[str, *tuple[int, ...]]) -> str:
    """Return the IP address of a peer's socket name. A socket for all addresses has IPv4 ones as `::ffff:192.0.2.1`."""
    return name[0].removeprefix("::ffff:")


def is_exposed(listener: socket.socket) -> bool:
    """Return whether other machines can reach a listening socket."""
    return not ipaddress.ip_address(listener.getsockname()[0]).is_loopback
