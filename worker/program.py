"""The extraction program that a worker runs. It starts once the worker has registered, and does not outlive it."""

import json
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from setproctitle import setproctitle

from amp_workers.prctl import adopt_orphans
from amp_workers.worker.ending import ProgramEnd, StopRequests
from amp_workers.worker.heartbeat import Heartbeat
from amp_workers.worker.notify_socket import NotifySocket
from amp_workers.worker.process_tree import reap, signal_all
from amp_workers.worker.progress import ProgressReports
from amp_workers.worker.reaper import END, END_STUCK, FROM_TERMINAL, HANDLED, KILL_PATIENCE_SECONDS, START, Guard

_SI_KERNEL = 0x80
"""The `si_code` of a terminal's signals, and of those of a timer or a limit, which go to one process."""

_OF_TERMINALS = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH}

_log = logging.getLogger("amp_workers.worker")


class Program:
    """One program, its guard, and the socket on which it reports progress.

    Create it in the main thread, before any thread that may hold a lock: a fork copies the lock and not the thread. It
    changes the signal mask.

    command: the program and its arguments. environment: all of the program's, but for what the socket adds.
    stop_timeout: seconds from SIGTERM to SIGKILL. progress: receives its reports. ends_stuck: whether to end a program
    that breaks its promise to report.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stop_timeout: float,
        progress: ProgressReports,
        *,
        ends_stuck: bool = False,
    ) -> None:
        # Where SIGCHLD is ignored, which a parent may have done, the kernel discards exit codes.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        program_mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        # If the guard is killed, its processes become children of this one.
        adopt_orphans()
        self._command, self._ends_stuck = command, ends_stuck
        self._progress = progress
        self._socket = NotifySocket(progress, os.environ)
        environment = {**environment, "NOTIFY_SOCKET": self._socket.address}
        if progress.watchdog_seconds is not None:
            environment["WATCHDOG_USEC"] = str(max(1, round(progress.watchdog_seconds * 1e6)))
        self._lock = threading.Lock()
        self._reported: ProgramEnd | None = None
        self._end: ProgramEnd | None = None
        self._requests = StopRequests(stop_timeout)
        orders, self._orders = os.pipe()
        self._report, report = os.pipe()
        os.set_blocking(self._report, False)
        worker = os.getpid()
        self._guard = os.fork()
        if self._guard == 0:
            os.close(self._orders)
            os.close(self._report)
            self._socket.forget()
            # Without the name and the arguments of the worker and the program: `pkill -f` for one of them must not end
            # the process that cleans up after them.
            setproctitle(f"amp-guard of pid {worker}")
            _run_guard(Guard(command, environment, stop_timeout, worker, orders, report, program_mask))
        os.close(orders)
        os.close(report)

    def run(self, heartbeat: Heartbeat) -> int:
        """Send heartbeats, run the program as long as the node id is ours, record its end; return its exit code.

        Raises:
            NodeIdTaken, AmpDatabaseRefused, UnfitSchema: the node id is another process's, the metadata DB is Amp's
                own, or no worker can register in the table; the program was not started.
            FencedOut: another process took it over; the program was stopped.
        """
        self._socket.listen(self._end_stuck if self._ends_stuck else None)
        try:
            heartbeat.start(registered=self._start, ended=self._stop)
            ending = self._requests.judge(self._wait())
        finally:
            self._socket.close()  # before the stop, which carries the last report
        heartbeat.finish(ending)
        assert ending.exit_code is not None
        return ending.exit_code

    def _start(self) -> None:
        self._progress.begin()
        self._order(START)

    def _end_stuck(self) -> None:
        if self._reported is None and self._requests.add_watchdog(time.monotonic()):
            _log.error("'%s' is stuck; ending it", self._command[0], extra={"reason": "watchdog"})
            self._order(END_STUCK)

    def _stop(self) -> None:
        self._order(END)

    def _order(self, order: int) -> None:
        """Send an order to the guard, from any thread. Nothing happens where the guard has ended."""
        with suppress(BrokenPipeError):
            os.write(self._orders, bytes([order]))
        with self._lock:
            if self._end is None:  # its pid may be another process's otherwise
                os.kill(self._guard, signal.SIGCHLD)

    def _wait(self) -> ProgramEnd:
        # When a terminal hangs up, the kernel sends SIGHUP to the leader of its session alone.
        to_the_group = _OF_TERMINALS - ({signal.SIGHUP} if os.getsid(0) == os.getpid() else set())
        while self._end is None:
            received = signal.sigwaitinfo(HANDLED)
            number = received.si_signo
            is_from_terminal = received.si_code == _SI_KERNEL and number in to_the_group
            if number == signal.SIGCHLD:
                self._reap()
            elif received.si_pid != os.getpid():  # as SIGPIPE does, after an order to a guard that has ended
                self._requests.add(number, time.monotonic())
                self._order(number | (FROM_TERMINAL if is_from_terminal else 0))
            if number == signal.SIGTSTP and is_from_terminal:
                _suspend()
        return self._end

    def _reap(self) -> None:
        with self._lock:
            ended, any_left = reap()
            self._read_report()
            if self._guard in ended:
                guard_end = ProgramEnd.of_status(ended[self._guard], time.monotonic())
                self._end = self._reported or guard_end
        if self._end is None or not any_left:
            return
        # It was killed, it failed, or it gave up a process that does not end.
        code = guard_end.exit_code
        _log.error("the guard ended with exit code %d before the program's processes; killing them", code)
        patience_ends = time.monotonic() + KILL_PATIENCE_SECONDS
        while any_left and time.monotonic() < patience_ends:
            signal_all(signal.SIGKILL)
            time.sleep(0.05)
            _, any_left = reap()
        if any_left:
            _log.error("the program's processes did not end after SIGKILL, and are left behind")

    def _read_report(self) -> None:
        """Read how the program ended, once the guard has reported it. A guard that is killed may report nothing."""
        with suppress(BlockingIOError):
            if written := os.read(self._report, select.PIPE_BUF):
                self._reported = ProgramEnd(**json.loads(written))
                self._progress.end_promise()


def _run_guard(guard: Guard) -> NoReturn:
    """Run the guard in this process, and exit."""
    code = 1
    try:
        try:
            code = guard.run().exit_code
        except BaseException:  # noqa: BLE001 - of this process, nothing above may run
            _log.exception("the guard of the program failed")
        logging.shutdown()  # as at the end of Python: it writes what is still queued
    finally:
        os._exit(code)


def _suspend() -> None:
    """Suspend this process as Ctrl-Z does without a handler, so that the shell sees the job suspended."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])
