"""The process between a worker and its program. It starts the program, forwards signals, and ends what is left.

It is a separate process so that the program cannot outlive a worker that is killed: the kernel signals only the
children of a process that ends, and the program may be the grandchild of a shell. It is forked before there is a second
thread, needs only the worker's orders, and reports at once how the program ended.

Orders arrive through a pipe, one byte each, followed by SIGCHLD. A signal alone is not enough: the kernel merges it
with a pending one from another sender, such as a signal to the whole process group, and the sender is lost.
"""

import json
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict

from amp_workers.prctl import adopt_orphans, signal_with_parent
from amp_workers.worker.ending import CANNOT_RUN, NOT_FOUND, ProgramEnd
from amp_workers.worker.process_tree import reap, signal_all

START = 0
"""The order to start the program, sent once the worker has registered. The order to forward a signal is its number."""

END = 0x7F
"""The order to end the program, or not to start it: the worker sends no more heartbeats. No signal has this number."""

END_STUCK = signal.SIGABRT
"""The order to end a program that is stuck, as systemd's watchdog does. SIGABRT is never forwarded."""

FROM_TERMINAL = 0x80
"""Added to the number of a signal that a terminal sent to the whole foreground process group."""

_OF_A_FAULT = (
    *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
    *(signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP),
)

_KEPT = (*_OF_A_FAULT, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP)

FORWARDED = frozenset(signal.valid_signals()) - frozenset(_KEPT)
"""The signals that a worker forwards to its program: all but those that concern the worker itself."""

HANDLED = FORWARDED | {signal.SIGCHLD}
"""The signals that the worker waits for; the guard waits for SIGCHLD alone. Both block them, so that none is lost."""

_END_A_WAIT = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPWR),
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU),
)
"""The signals after which no program is started. All others are meant for a program that runs."""

_LONGEST_WAIT_SECONDS = 3600.0
_KILL_AGAIN_SECONDS = 0.1
KILL_PATIENCE_SECONDS = 5.0
"""How long a process may take to end after SIGKILL. Then one that hangs in the kernel is left behind."""

_log = logging.getLogger("amp_workers.worker")


class Guard:
    """Runs one program, in a process that has no other children and no other threads.

    stop_timeout: seconds from SIGTERM, or from the program's end, until what still runs is killed. worker: the parent's
    pid. orders: the end to read from of its pipe. report: the end to write to of another one, for the program's end.
    program_mask: the signals that the program starts with blocked.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stop_timeout: float,
        worker: int,
        orders: int,
        report: int,
        program_mask: Iterable[int],
    ) -> None:
        self._command, self._environment = command, environment
        self._stop_timeout = stop_timeout
        self._worker = worker
        self._orders, self._report = orders, report
        self._program_mask = program_mask
        self._pid = os.getpid()
        self._program: subprocess.Popen[bytes] | None = None
        self._end: ProgramEnd | None = None
        self._kill_at = math.inf
        self._is_kill_logged = False
        self._is_refusal_logged = False

    def run(self) -> ProgramEnd:
        """Wait for START, then run the program to its end, and end what it leaves behind.

        A program that was not started because of signal N counts as one that N ended.
        """
        adopt_orphans()
        signal_with_parent(signal.SIGCHLD)
        os.set_blocking(self._orders, False)
        unstarted = self._wait_for_start() or self._start()
        if unstarted is not None:
            return self._ended(unstarted)
        while not self._check_processes():
            order = self._hear(max(_KILL_AGAIN_SECONDS, self._kill_at - time.monotonic()))
            if order is not None and self._end is None:
                self._forward(order)
        return self._end or self._ended(_ended_by(signal.SIGKILL))

    def _ended(self, end: ProgramEnd) -> ProgramEnd:
        """Report the program's end to the worker, before what the program has left behind is ended."""
        self._end = end
        if not self._is_orphan():
            with suppress(BrokenPipeError, ProcessLookupError):  # the worker is killed at this moment
                os.write(self._report, json.dumps(asdict(end)).encode())
                os.kill(self._worker, signal.SIGCHLD)
        return end

    def _wait_for_start(self) -> ProgramEnd | None:
        """Return None when the program is to be started, or its end when it never will be."""
        while not self._is_orphan():
            order = self._hear(math.inf)
            if order is None:
                continue
            if order == START:
                return None
            if order == END:
                return _ended_by(signal.SIGTERM)
            number = order & ~FROM_TERMINAL
            if number in _END_A_WAIT and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                return _ended_by(number)
        return _ended_by(signal.SIGKILL)

    def _hear(self, seconds: float) -> int | None:
        """Wait for an order, the end of a process or the end of the worker. Return the order, if there is one.

        More orders may be waiting.
        """
        order = self._read_order()
        if order is None:
            signal.sigtimedwait([signal.SIGCHLD], min(seconds, _LONGEST_WAIT_SECONDS))
            order = self._read_order()
        return order

    def _read_order(self) -> int | None:
        try:
            read = os.read(self._orders, 1)
        except BlockingIOError:
            return None
        return read[0] if read else None

    def _is_orphan(self) -> bool:
        # The kernel sends SIGCHLD when the worker's first thread has ended and this process has another parent, but the
        # worker's end of the pipe may be open for a moment more, until its other threads have ended.
        return os.getppid() != self._worker

    def _start(self) -> ProgramEnd | None:
        try:
            # Kept and never polled: polling and garbage collection would reap the program before `reap` does.
            self._program = subprocess.Popen(
                self._command,
                env=self._environment,
                close_fds=False,  # what the worker inherited; what it opened itself is not inheritable
                preexec_fn=self._become_program,  # noqa: PLW1509 - there is one thread
            )
        except OSError as error:
            _log.error("cannot run '%s': %s", self._command[0], error.strerror, extra={"reason": error.strerror})
            is_missing = isinstance(error, FileNotFoundError)
            code, failure = (NOT_FOUND, "not found") if is_missing else (CANNOT_RUN, "cannot be run")
            return ProgramEnd(code, failure, None, time.monotonic())
        _log.info("started '%s' as pid %d", self._command[0], self._program.pid, extra={"pid": self._program.pid})
        return None

    def _become_program(self) -> None:
        """Prepare the child process between fork and exec."""
        signal_with_parent(signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(128 + signal.SIGKILL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # Python's own handler would swallow what arrives from here to the exec.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._program_mask)

    def _forward(self, order: int) -> None:
        assert self._program is not None
        if order == END_STUCK:
            # To all processes: the one that hangs may be the child of a shell.
            signal_all(signal.SIGABRT)
            signal_all(signal.SIGCONT)
            self._kill_within_stop_timeout()
            return
        # It is reaped in `_check_processes` alone, so that no other process has its pid.
        pid, number = self._program.pid, signal.SIGTERM if order == END else order & ~FROM_TERMINAL
        if order & FROM_TERMINAL and os.getpgid(pid) == os.getpgrp():
            return  # the terminal has sent it to the program as well
        try:
            os.kill(pid, number)
            if number == signal.SIGTERM:
                os.kill(pid, signal.SIGCONT)  # a suspended program handles SIGTERM only after SIGCONT
        except PermissionError:
            if not self._is_refusal_logged:
                self._is_refusal_logged = True
                _log.error("cannot signal '%s' (%d): it runs as another user", self._command[0], pid)
        if number == signal.SIGTERM:
            self._kill_within_stop_timeout()

    def _check_processes(self) -> bool:
        """Reap, end and kill processes. Return whether none is left, or only what does not end after SIGKILL."""
        assert self._program is not None
        ended, any_left = reap()
        if self._program.pid in ended:
            code = self._ended(ProgramEnd.of_status(ended[self._program.pid], time.monotonic())).exit_code
            _log.info("'%s' ended with exit code %d", self._command[0], code, extra={"exit_code": code})
            if any_left:
                self._end_the_rest()
        if self._is_orphan():
            self._kill_at = min(self._kill_at, time.monotonic())
        overdue = time.monotonic() - self._kill_at
        if any_left and overdue >= 0:
            self._kill()
        return not any_left or overdue >= KILL_PATIENCE_SECONDS

    def _kill(self) -> None:
        killed = signal_all(signal.SIGKILL)
        if killed and not self._is_kill_logged:
            self._is_kill_logged = True
            _log.warning("killed processes that did not end in time: %s", ", ".join(killed))

    def _end_the_rest(self) -> None:
        rest = signal_all(signal.SIGTERM)
        signal_all(signal.SIGCONT)
        if rest:
            _log.warning("'%s' left processes behind; ending them: %s", self._command[0], ", ".join(rest))
        self._kill_within_stop_timeout()

    def _kill_within_stop_timeout(self) -> None:
        """Set the time to kill, once: neither a second SIGTERM nor what the program leaves behind prolongs it."""
        self._kill_at = min(self._kill_at, time.monotonic() + self._stop_timeout)


def _ended_by(number: int) -> ProgramEnd:
    return ProgramEnd.of_status(-number, time.monotonic())
