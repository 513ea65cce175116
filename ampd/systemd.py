"""Notifications of systemd, for a service with `Type=notify`: readiness, status, watchdog, stop."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime

_START_SECONDS = 0.2
"""Interval of the probes of a server that is starting."""

_ANSWER_SECONDS = 10.0
"""The longest that a server may take to answer a probe."""

_WATCHDOG_SHARE = 0.25
"""Of WatchdogSec=: two notifications in a row may be lost."""

_PROGRAM_SECONDS = 1.0

ENVIRONMENT = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """The service manager that started this process. Without NOTIFY_SOCKET, it sends nothing.

    Sending never blocks, and each message holds the whole state: a message that a busy manager did not take is replaced
    by the next one.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Remove the variables from the environment, so that child processes do not notify in place of this one."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        is_for_us = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._pace = int(microseconds) / 1e6 * _WATCHDOG_SHARE if microseconds.isdigit() and is_for_us else math.inf
        self._state, self._since = "", ""
        self._sent, self._due = "", math.inf
        self._of_program, self._of_program_due = "", -math.inf
        self._stops = False

    def alive(self, state: str, detail: str = "", of_program: str = "") -> None:
        """Report readiness, a sign of life and the status, such as `serves since 2025-01-15T17:20:15Z`.

        of_program: a text that the service's program reports of itself. A change is sent once a second at most.

        Call it from the loop that does the work, at any rate: a message is sent when the status has changed, or when
        the watchdog needs one.
        """
        if time.monotonic() >= self._of_program_due and of_program != self._of_program:
            self._of_program, self._of_program_due = of_program, time.monotonic() + _PROGRAM_SECONDS
        self._notify("READY=1\nWATCHDOG=1", state, detail)

    def unresponsive(self, state: str) -> None:
        """Report the status, without a sign of life."""
        self._notify("", state, "")

    def stopping(self) -> None:
        """Report that the service is about to end."""
        self._stops = True
        self._send("STOPPING=1\nSTATUS=stops")

    @contextmanager
    def watching(self, answers: Callable[[float], bool]) -> Iterator[None]:
        """Probe a server while the block runs, and send a sign of life for each answer.

        answers: sends a probe, and returns whether the server answered within about so many seconds.
        """
        if self._address:
            threading.Thread(target=self._watch, args=(answers,), name="watchdog", daemon=True).start()
        try:
            yield
        finally:
            self.stopping()

    def _watch(self, answers: Callable[[float], bool]) -> None:
        wait, patience = _START_SECONDS, _ANSWER_SECONDS
        while not self._stops:
            time.sleep(wait)
            if answers(patience):
                self.alive("serves")
                wait = patience = min(self._pace, _ANSWER_SECONDS)
            elif self._state:
                self.unresponsive("does not answer")

    def _notify(self, signs: str, state: str, detail: str) -> None:
        if self._stops:
            return
        if state != self._state:
            self._state, self._since = state, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = f"{state} since {self._since}" + (f": {detail}" if detail else "")
        status += f"; {self._of_program}" if self._of_program else ""
        # systemd ends a line at "\r" as well, and ignores a message with a NUL byte.
        status = "".join(each if each.isprintable() else "?" for each in status)
        now = time.monotonic()
        if (status != self._sent or now >= self._due) and self._send(f"{signs}\nSTATUS={status}".strip()):
            self._sent, self._due = status, now + self._pace

    def _send(self, message: str) -> bool:
        if not self._address:
            return True
        # Written @like-this, it is a name in the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            # Without a free descriptor, this fails as well.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                peer.setblocking(False)  # a manager that hangs must not hold up a heartbeat
                peer.sendto(message.encode(), address)
        except OSError:
            return False
        return True
