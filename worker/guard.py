"""The process between a worker and its program: it starts the program, passes signals on, and lets none outlive it.

It is a process of its own so that the program cannot outlive a worker that is killed: a kernel that ends with a
parent knows of its children alone, and the program may be the grandchild of a shell. It is forked before there is
a second thread, needs nothing of the worker but signals, and ends with the program's exit code.
"""

import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence

from worker.descendants import adopt_orphans, reap, signal_all, signal_with_parent

PASSED_ON = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT),
)
"""The signals that the program gets when the worker is sent them."""

START = signal.SIGRTMIN
"""Sent by the worker once it has registered."""

HEARD = (*PASSED_ON, START, signal.SIGCHLD)
"""The signals that worker and guard wait for. They are blocked otherwise, so that none is lost."""

SI_KERNEL = 0x80
"""The `si_code` of a terminal's signals, which go to the whole foreground process group: the program has them."""

_END_A_WAIT = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)

_NOT_FOUND, _CANNOT_RUN, _KILLED = 127, 126, 128 + signal.SIGKILL

_LONGEST_WAIT_SECONDS = 3600.0
_KILL_AGAIN_SECONDS = 0.1
KILL_PATIENCE_SECONDS = 5.0
"""How long a process may take to die of SIGKILL. One that hangs in the kernel is left to it then."""

_log = logging.getLogger("worker")


class Guard:
    """Guards one program. `run` does it all, in a process that has no other children and no other threads.

    stop_timeout: seconds from SIGTERM, or from the program's end, until what still runs is killed. worker: the pid of
    the process that signals come from. program_mask: the signals that the program starts with blocked.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stop_timeout: float,
        worker: int,
        program_mask: Iterable[int],
    ) -> None:
        self._command, self._environment = command, environment
        self._stop_timeout = stop_timeout
        self._worker = worker
        self._program_mask = program_mask
        self._pid = os.getpid()
        self._program: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._kill_at = math.inf
        self._told_of_killing = False

    def run(self) -> int:
        """Wait for START, then run the program to its end, and end what it leaves behind.

        Returns its exit code: 128 + N if it died of signal N, or if N came before START; 126 or 127 if it cannot be
        run.
        """
        adopt_orphans()
        signal_with_parent(signal.SIGCHLD)
        code = self._wait_for_start()
        if code is None:
            code = self._start()
        while code is None:
            self._hear()
            code = self._look_after_processes()
        return code

    def _wait_for_start(self) -> int | None:
        """Return None when the program is to be started, or the exit code when it never will be."""
        while not self._is_orphan():
            received = signal.sigwaitinfo(HEARD)
            if received.si_signo == START:
                return None
            ignored = signal.getsignal(received.si_signo) is signal.SIG_IGN  # as nohup has it
            if received.si_signo in _END_A_WAIT and self._is_for_program(received) and not ignored:
                return 128 + received.si_signo
        return _KILLED

    def _start(self) -> int | None:
        try:
            # Kept, and asked nothing: it would reap the program, when collected as well, before `reap` sees its end.
            self._program = subprocess.Popen(
                self._command,
                env=self._environment,
                close_fds=False,  # what the worker was given to pass on; what it opened itself is not inherited
                preexec_fn=self._become_program,  # noqa: PLW1509 - there is one thread
            )
        except OSError as error:
            _log.error("cannot run '%s': %s", self._command[0], error.strerror)
            return _NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN
        _log.info("runs '%s', pid %d", self._command[0], self._program.pid)
        return None

    def _become_program(self) -> None:
        """In the program's process, before it becomes the program."""
        signal_with_parent(signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(_KILLED)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # Python's own handler would swallow what arrives from here to the exec.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._program_mask)

    def _hear(self) -> None:
        """Wait for a signal, or for the time to kill, and pass on what is for the program."""
        wait = max(_KILL_AGAIN_SECONDS, self._kill_at - time.monotonic())
        received = signal.sigtimedwait(HEARD, min(wait, _LONGEST_WAIT_SECONDS))
        if self._is_orphan():
            self._kill_at = min(self._kill_at, time.monotonic())
        if received is None or self._code is not None or not self._is_for_program(received):
            return
        if received.si_signo in PASSED_ON:
            assert self._program is not None
            # Not reaped before `_look_after_processes`, so that its pid is nobody else's.
            os.kill(self._program.pid, received.si_signo)
            if received.si_signo == signal.SIGTERM:
                os.kill(self._program.pid, signal.SIGCONT)  # one that is suspended must hear of it, too
                self._kill_within_stop_timeout()

    def _look_after_processes(self) -> int | None:
        """Reap, end and kill; return the exit code when nothing is left to be done."""
        assert self._program is not None
        ended, any_left = reap()
        if self._program.pid in ended:
            self._code = ended[self._program.pid]
            _log.info("'%s' ended with exit code %d", self._command[0], self._code)
            if any_left:
                self._end_the_rest()
        overdue = time.monotonic() - self._kill_at
        if any_left and overdue >= 0:
            self._kill()
        if any_left and overdue < KILL_PATIENCE_SECONDS:
            return None
        return _KILLED if self._code is None else self._code

    def _kill(self) -> None:
        killed = signal_all(signal.SIGKILL)
        if killed and not self._told_of_killing:
            self._told_of_killing = True
            _log.warning("killed, since they did not end in time: %s", ", ".join(killed))

    def _end_the_rest(self) -> None:
        rest = signal_all(signal.SIGTERM)
        signal_all(signal.SIGCONT)
        if rest:
            _log.warning("'%s' left processes behind, which are ended: %s", self._command[0], ", ".join(rest))
        self._kill_within_stop_timeout()

    def _kill_within_stop_timeout(self) -> None:
        """Set the time to kill, once: neither a second SIGTERM nor what the program leaves behind prolongs it."""
        self._kill_at = min(self._kill_at, time.monotonic() + self._stop_timeout)

    def _is_orphan(self) -> bool:
        return os.getppid() != self._worker

    def _is_for_program(self, received: signal.struct_siginfo) -> bool:
        """The worker's are, and those of the terminal that the program did not get itself.

        Others are not: whoever signals a whole group or a whole cgroup has signalled the program as well.
        """
        if received.si_code == SI_KERNEL:
            return self._program is None or os.getpgid(self._program.pid) != os.getpgrp()
        return received.si_pid == self._worker
