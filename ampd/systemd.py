"""What systemd is told of a service with `Type=notify`: that it is ready, how it is, that it lives, that it stops."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime

_START_SECONDS = 0.2
"""How often a server that starts is asked whether it answers."""

_ANSWER_SECONDS = 10.0
"""How long a server may take to answer at most."""

_WATCHDOG_SHARE = 0.25
"""Of WatchdogSec=, after which another sign of life is due: two may be lost."""

_PROGRAM_SECONDS = 1.0

ENVIRONMENT = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """The manager that started this process, if one did: where there is no NOTIFY_SOCKET, nobody is told.

    No message waits for the manager, and none depends on one before it: each tells all, so that one that the manager
    was too busy to take is made good by the next.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take what is meant for this process alone out of the environment: no child of ours is to speak for it."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        is_for_us = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._pace = int(microseconds) / 1e6 * _WATCHDOG_SHARE if microseconds.isdigit() and is_for_us else math.inf
        self._state, self._since = "", ""
        self._told, self._due = "", math.inf
        self._of_program, self._of_program_due = "", -math.inf
        self._stops = False

    def alive(self, state: str, detail: str = "", of_program: str = "") -> None:
        """Say that the service is ready, does its work now, and how it is: `serves since 2025-01-15T17:20:15Z`.

        of_program: one line that the service's program reports of itself. It may change at any rate: it is passed on
        once a second at most.

        Call it from the loop that does the work, as often as the loop likes: the manager receives what is new, and what
        its watchdog needs.
        """
        if time.monotonic() >= self._of_program_due and of_program != self._of_program:
            self._of_program, self._of_program_due = of_program, time.monotonic() + _PROGRAM_SECONDS
        self._tell("READY=1\nWATCHDOG=1", state, detail)

    def hangs(self, state: str) -> None:
        """Say how the service is, with no sign of life."""
        self._tell("", state, "")

    def stopping(self) -> None:
        """Say that the service is about to end."""
        self._stops = True
        self._send("STOPPING=1\nSTATUS=stops")

    @contextmanager
    def watching(self, answers: Callable[[float], bool]) -> Iterator[None]:
        """Pass on the signs of life of a server, as long as the block runs.

        answers: asks the server, and returns within about so many seconds whether it answered.
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
                self.hangs("does not answer")

    def _tell(self, signs: str, state: str, detail: str) -> None:
        if self._stops:
            return
        if state != self._state:
            self._state, self._since = state, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = f"{state} since {self._since}" + (f": {detail}" if detail else "")
        status += f"; {self._of_program}" if self._of_program else ""
        now = time.monotonic()
        if (status != self._told or now >= self._due) and self._send(f"{signs}\nSTATUS={status}".strip()):
            self._told, self._due = status, now + self._pace

    def _send(self, message: str) -> bool:
        if not self._address:
            return True
        # Written @like-this, it is a name in the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.setblocking(False)  # a manager that hangs must not hold up a heartbeat
            try:
                peer.sendto(message.encode(), address)
            except OSError:
                return False
        return True
