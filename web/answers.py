"""Whether a server on this machine answers, as its own parent process sees it."""

import socket
import ssl

from amp_workers.web.listen import ListenAddress

_REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Answers:
    """Asks a server for `/-/healthy`, over TLS if that is what it speaks: `answers(seconds)` is true if it does.

    It is the answer that counts, and not the connection, which the kernel takes for a process that hangs. One that
    demands a client's certificate answers by refusing this client, which has none.
    """

    def __init__(self, address: ListenAddress) -> None:
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be reached from this machine
        self._peer = anywhere.get(address.host, address.host), address.port
        # `connect` alone takes no lock, which `create_connection` does: this process may be forked at any moment.
        self._family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._tls = False
        # It is this process's own child that is asked, not somebody who has to prove who he is.
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def __call__(self, seconds: float) -> bool:
        for tls in (self._tls, not self._tls):
            if self._answers(tls, seconds):
                self._tls = tls
                return True
        return False

    def _answers(self, tls: bool, seconds: float) -> bool:
        try:
            with socket.socket(self._family) as connection:
                connection.settimeout(seconds)
                connection.connect(self._peer)
                if not tls:
                    return self._asks(connection)
                with self._context.wrap_socket(connection) as encrypted:
                    return self._asks(encrypted)
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        except OSError:
            return False

    @staticmethod
    def _asks(stream: socket.socket) -> bool:
        stream.sendall(_REQUEST)
        return stream.recv(64).startswith(b"HTTP/1.1 200 ")
