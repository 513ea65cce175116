"""The log of failed TLS handshakes: one line per second at most, however many clients fail."""

import asyncio
import logging

_SECONDS = 1.0

_log = logging.getLogger("amp_workers.web")


class HandshakeLog:
    """Logs the first failure at once, and those of the following second in one line, with their number."""

    def __init__(self) -> None:
        self._pause: asyncio.TimerHandle | None = None
        self._failures = 0
        self._latest = ""

    def add(self, address: str, reason: str) -> None:
        """Record a failure. address: the client's."""
        self._failures, self._latest = self._failures + 1, f"{address}: the TLS handshake failed: {reason}"
        if self._pause is None:
            self._write()

    def close(self) -> None:
        """Log the failures that are not logged yet."""
        if self._pause is not None:
            self._pause.cancel()
        if self._failures:
            self._write()

    def _write(self) -> None:
        self._pause = None
        if self._failures:
            count = "" if self._failures == 1 else f" (the latest of {self._failures} failures)"
            _log.info("%s%s", self._latest, count)
            self._failures = 0
            self._pause = asyncio.get_running_loop().call_later(_SECONDS, self._write)
