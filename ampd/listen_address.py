"""The addresses that a server listens on, as its flags have them."""

import socket
from dataclasses import dataclass
from typing import Self

import click


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
        from amp_workers.web.server.listen import AddressInUse, listen

        try:
            return listen(self.host, self.port)
        except AddressInUse as error:
            raise click.ClickException(f"cannot listen on {self}: {error}. Choose another with {option}.") from error

    def refusal(self) -> str | None:
        """Return why no server can listen there, or None."""
        from amp_workers.web.server.listen import AddressInUse, listen

        try:
            listen(self.host, self.port).close()
        except AddressInUse as error:
            return f"cannot listen on {self}: {error}"
        return None
