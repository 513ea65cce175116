"""Whether a server on this machine answers, as a probe of its own process sees it."""

import socket
import ssl

from amp_workers.ampd.listen_address import ListenAddress

_REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class SelfProbe:
    """Sends `GET /-/healthy` to a server, over TLS if the server speaks it: `probe(seconds)` is true if it answers.

    The answer counts, and not the connection, which the kernel accepts for a process that hangs. Over TLS, a handshake
    is an answer: a server that requires a client certificate refuses this client, which has none.
    """

    def __init__(self, address: ListenAddress) -> None:
        wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to connect from this machine
        self._peer = wildcards.get(address.host, address.host), address.port
        self._family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._tls = False
        # The peer is this process itself.
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
                if tls:
                    self._context.wrap_socket(connection).close()
                    return True
                connection.sendall(_REQUEST)
                return connection.recv(64).startswith(b"HTTP/1.1 200 ")
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        except OSError:
            return False
