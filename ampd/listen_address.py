"""The addresses that a server listens on, as its flags have them."""

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import click

_BACKLOG = 1024
"""Connections that may wait to be accepted."""


@dataclass(frozen=True)
class ListenAddress:
    """A host and a port, written `127.0.0.1:1610`, `[::1]:1610`, or `:1610` for every IPv4 address of the machine."""

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
            raise ValueError(f"'{text}' is not HOST:PORT with a port from 1 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"'{text}': an IPv6 address needs brackets, as in [::1]:{port}")
        return cls("0.0.0.0" if host in {"", "*"} else host, int(port))  # noqa: S104 - the user asked for it

    @property
    def url(self) -> str:
        return f"http://{self}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def listen(self, option: str) -> socket.socket:
        """Return a socket that listens there. option: the flag that has the address.

        Raises:
            click.ClickException: another process listens there, or this process may not.
        """
        try:
            return self._listen()
        except OSError as error:
            refusal = f"cannot listen on {self}: {error.strerror}. Choose another with {option}."
            raise click.ClickException(refusal) from error

    def refusal(self) -> str | None:
        """Return why no server can listen there, or None."""
        try:
            self._listen().close()
        except OSError as error:
            return f"cannot listen on {self}: {error.strerror}"
        return None

    def _listen(self) -> socket.socket:
        flags = socket.AI_PASSIVE
        family, kind, protocol, _, address = socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM, flags=flags
        )[0]
        with ExitStack() as on_failure:
            listener = on_failure.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            on_failure.pop_all()
        return listener
