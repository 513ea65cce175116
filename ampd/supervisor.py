"""Supervises child processes: a child that exits is restarted with backoff, and each restart is reported."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from amp_workers.worker import Backoff

BACKOFF_SECONDS = (1.0, 30.0)
"""The first wait and the longest one before a restart, each cut by a random part."""

_STEADY_SECONDS = 60.0
"""The backoff of a child that ran for so long starts from the beginning."""


class Child(Protocol):
    """A process that the supervisor starts and restarts."""

    @property
    def name(self) -> str: ...

    def launch(self) -> None:
        """Start the process."""

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""


class Command:
    """A child process that runs a command line."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._name = name
        self._arguments, self._environment = arguments, environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return self._name

    def launch(self) -> None:
        # In a session of its own: Ctrl-C in a terminal must reach the supervisor only.
        self._process = subprocess.Popen(
            self._arguments, env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def poll(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def terminate(self) -> None:
        """Send SIGTERM to the process if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait_or_kill(self, until: float) -> None:
        """Wait for the process until a time of the monotonic clock, then kill it."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, until - time.monotonic()))
            return
        self._process.kill()
        self._process.wait()


@dataclass
class _Watched:
    child: Child
    launched_at: float
    backoff: Backoff = field(default_factory=lambda: Backoff(*BACKOFF_SECONDS))
    restart_at: float | None = None


class Supervisor:
    """Restarts children. Call `tick` a few times per second."""

    def __init__(self, children: Sequence[Child], say: Callable[[str], None]) -> None:
        self._watched = [_Watched(child, time.monotonic()) for child in children]
        self._say = say

    def tick(self) -> None:
        """Reap exited children; restart those whose backoff has expired."""
        now = time.monotonic()
        for watched in self._watched:
            if watched.restart_at is not None:
                if now >= watched.restart_at:
                    watched.child.launch()
                    watched.launched_at, watched.restart_at = now, None
                continue
            status = watched.child.poll()
            if status is not None:
                self._schedule(watched, status, now)

    def _schedule(self, watched: _Watched, status: int, now: float) -> None:
        if now - watched.launched_at >= _STEADY_SECONDS:
            watched.backoff.reset()
        wait = watched.backoff.next()
        self._say(f"{watched.child.name} {ending(status)}; restarting it in {wait:.1f} s")
        watched.restart_at = now + wait


def ending(status: int) -> str:
    """Describe how a process ended: `was killed by SIGKILL`, `exited with code 1`."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with code {status}"
