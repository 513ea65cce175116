"""The log of failed TLS handshakes: a few lines per second, however many clients fail."""

import asyncio
import logging

_SECONDS = 1.0
_LINES = 10

_log = logging.getLogger("amp_workers.web")


class HandshakeLog:
    """Logs the first failures of each second with their reasons, and then the number of the further ones."""

    def __init__(self) -> None:
        self._failures = 0
        self._period: asyncio.TimerHandle | None = None

    def add(self, address: str, reason: str) -> None:
        """Record a failure. address: the client's."""
        self._failures += 1
        if self._period is None:
            self._period = asyncio.get_running_loop().call_later(_SECONDS, self.flush)
        if self._failures <= _LINES:
            _log.info("%s: the TLS handshake failed: %s", address, reason)

    def flush(self) -> None:
        """Log the number of the failures that have no line of their own, and begin again."""
        if self._period is not None:
            self._period.cancel()
        if self._failures > _LINES:
            _log.info("%d more TLS handshakes failed", self._failures - _LINES)
        self._failures, self._period = 0, None
