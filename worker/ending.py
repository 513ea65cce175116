"""How a worker ends: which ends are on purpose, and how the others are named."""

import math
import signal
from collections import deque
from dataclasses import dataclass

from amp_workers.metadata_db import ON_PURPOSE, Ending

NOT_FOUND, CANNOT_RUN = 127, 126
"""The exit codes of a shell for a program that was not found, and for one that cannot be run."""

_ENDS_THE_PROGRAM = signal.SIGTERM
_MAY_END_THE_PROGRAM = frozenset({signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""To many programs, SIGHUP means to reload, and SIGQUIT to print a stack."""

_RACE_SECONDS = 0.5
"""A signal to a whole control group may end the program before the worker has seen its own."""


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """How a program ended, with or without a request."""

    exit_code: int
    """As shells have it: 128 + N for signal N."""

    failure: str | None
    """A short text, if the end was not requested; None for an exit code of 0."""

    signal: int | None
    """The signal that ended the program."""

    moment: float
    """Of the monotonic clock, which all processes of a machine share."""

    @classmethod
    def of_status(cls, status: int, moment: float) -> "ProgramEnd":
        """Return how a process with an exit status ended: -N stands for signal N."""
        if status < 0:
            return cls(128 - status, f"killed by {_name(-status)}", -status, moment)
        return cls(status, None if status == 0 else f"exit code {status}", None, moment)


class StopRequests:
    """The signals that requested the end of a program.

    stop_timeout: seconds within which an end after SIGINT, SIGHUP or SIGQUIT is a consequence of it.
    """

    def __init__(self, stop_timeout: float) -> None:
        self._stop_timeout = stop_timeout
        self._watchdog_at = math.inf
        self._requests: deque[tuple[int, float]] = deque(maxlen=1000)

    def add(self, number: int, moment: float) -> None:
        """Record a signal that was forwarded, unless the program inherits it as ignored (`nohup`)."""
        may_end = number == _ENDS_THE_PROGRAM or number in _MAY_END_THE_PROGRAM
        if may_end and signal.getsignal(number) is not signal.SIG_IGN:
            self._requests.append((number, moment))

    def add_watchdog(self, moment: float) -> bool:
        """Record that the watchdog ends the program. Return False if SIGTERM requested the end before."""
        # Of a copy: another thread may add a signal meanwhile.
        if any(number == _ENDS_THE_PROGRAM for number, _ in tuple(self._requests)):
            return False
        self._watchdog_at = moment
        return True

    def judge(self, end: ProgramEnd) -> Ending:
        """Return the ending. It is on purpose after an exit code of 0, or if one of the signals requested it."""
        if end.moment >= self._watchdog_at:
            # Not 0, even where the program handles SIGABRT: a supervisor must restart the worker.
            return Ending(end.exit_code or 128 + signal.SIGABRT, "watchdog")
        is_on_purpose = any(self._explains(number, moment, end) for number, moment in self._requests)
        return Ending(end.exit_code, None if is_on_purpose else end.failure)

    def _explains(self, number: int, moment: float, end: ProgramEnd) -> bool:
        if number == end.signal:
            return True
        waited = end.moment - moment
        if number == _ENDS_THE_PROGRAM:
            return waited >= -_RACE_SECONDS
        return -_RACE_SECONDS <= waited <= self._stop_timeout


def ending_of_block(error: BaseException | None) -> Ending:
    """Return how a `with` block ended, from the exception that left it or None."""
    if error is None or isinstance(error, KeyboardInterrupt):
        return ON_PURPOSE
    if isinstance(error, SystemExit):
        # The exit code as the operating system has it: Python exits with 1 for a text, and with the last eight bits.
        code = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
        return Ending(code & 0xFF, None if code & 0xFF == 0 else f"exit code {code & 0xFF}")
    # Only the type: a message can contain secrets.
    return Ending(failure=f"raised {type(error).__name__}")


def _name(number: int) -> str:
    """Return the name of a signal; most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
