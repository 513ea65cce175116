"""The log of failed TLS handshakes: a few lines per second, however many clients fail."""

import asyncio
import logging

_SECONDS = 1.0
_LINES = 10

_log = logging.getLogger("amp_workers.web")


class HandshakeLog:
    """Logs the first failures of each second with their reasons, and then the number of the others."""

    def __init__(self) -> None:
        self._failures = 0

    def add(self, address: str, reason: str) -> None:
        """Record a failure. address: the client's."""
        self._failures += 1
        if self._failures == 1:
            asyncio.get_running_loop().call_later(_SECONDS, self.flush)
        if self._failures <= _LINES:
            _log.info("TLS handshake failed", extra={"address": address, "reason": reason})

    def flush(self) -> None:
        """Log the number of the failures that have no line of their own, and start again."""
        if self._failures > _LINES:
            _log.info("more TLS handshakes failed", extra={"number": self._failures - _LINES})
        self._failures = 0
