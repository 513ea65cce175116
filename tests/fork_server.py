"""Starts `ampd` and `ampctl` as forks of a process that has imported them: 30 ms of processor time, where Python's
start and the imports of `ampd` take 450 ms, and those of `ampctl` 90 ms.

The new process has its own pid, arguments, environment, directory, files and title, and runs the entry point of its
program. Tests of the start itself, and those of whole deployments, execute the programs instead.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

from setproctitle import setproctitle

_MODULES = (
    *("ctl.cli", "ampd.cli", "ampd.admin", "ampd.exporter", "ampd.migrate", "ampd.server", "ampd.worker"),
    *("admin", "exporter", "worker", "metadata_db.migrate"),
)
_COMMANDS = {"admin", "exporter", "migrate", "worker"}
_READ_LATE = ("AMP_", "PG")
"""Prefixes of variables that are read when a command runs. Others change how Python or the C library starts."""

_MESSAGE_BYTES = 200_000


def can_fork(command: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Whether a fork is equivalent. variables: those that the process gets in addition to the tests' environment."""
    is_known = Path(command[0]).name == "ampctl" or not _COMMANDS.isdisjoint(command[1:2])
    return is_known and all(name.startswith(_READ_LATE) for name in variables)


class ForkedProcess:
    """A child of the fork server, as subprocess.Popen represents a child of this process."""

    def __init__(self, server: "ForkServer", pid: int, command: Sequence[str]) -> None:
        self.pid, self.args = pid, command
        self.returncode: int | None = None
        self._server = server
        self._lock = Lock()
        self._descriptor = os.pidfd_open(pid)
        finalize(self, os.close, self._descriptor)

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._reap(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after so many seconds.
        """
        status = self._reap(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return status

    def _reap(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            end = select.poll()
            end.register(self._descriptor, select.POLLIN)
            if end.poll(None if timeout is None else timeout * 1000):
                with self._lock:
                    if self.returncode is None:  # no other thread has reaped it meanwhile
                        self.returncode = self._server.request({"reap": self.pid})
        return self.returncode


class ForkServer:
    """The process that has imported `ampd`. It ends with this process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = Lock()
        self._connection, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(its_end.fileno())],
                pass_fds=[its_end.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
            )

    def start(
        self, command: Sequence[str], output: int, environment: Mapping[str, str], cwd: Path, error: int | None = None
    ) -> ForkedProcess:
        """Start a command. error: the file of its standard error, by default that of its standard output."""
        wanted = {"command": command, "environment": dict(environment), "cwd": str(cwd)}
        return ForkedProcess(self, self.request(wanted, output, output if error is None else error), command)

    def request(self, message: Mapping[str, Any], *files: int) -> int:
        with self._lock:
            socket.send_fds(self._connection, [json.dumps(message).encode()], files)
            return int(self._connection.recv(_MESSAGE_BYTES))

    def end(self) -> None:
        self._connection.close()
        self._process.wait()


def _serve(connection: socket.socket) -> None:
    """Start and reap processes until the connection ends. Returns only in a new process."""
    while True:
        message, files, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 2)
        if not message:
            sys.exit()
        wanted = json.loads(message)
        if "reap" in wanted:
            number = os.waitstatus_to_exitcode(os.waitpid(wanted["reap"], 0)[1])
        else:
            number = os.fork()
            if number == 0:
                connection.detach()
                _become(wanted, *files)
                return
            for file in files:
                os.close(file)
        connection.send(str(number).encode())


def _become(wanted: Mapping[str, Any], output: int, error: int) -> None:
    os.dup2(output, 1)
    os.dup2(error, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = wanted["command"]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_early(code: Sequence[int]) -> None:
    """Leave a process that has run its program: to destroy all modules would copy most of its memory first."""
    if code:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code[0])


if __name__ == "__main__":
    _exit_code: list[int] = []
    atexit.register(_exit_early, _exit_code)  # before all others, and thus called after them
    for _module in _MODULES:
        import_module(f"amp_workers.{_module}")
    setproctitle("fork server of the tests")
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork beside threads is not safe"
    gc.freeze()  # a collection in a new process would copy the pages of all objects
    # A Ctrl-C in a terminal is for the tests, which end what they have started.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        import_module(f"amp_workers.{'ctl' if Path(sys.argv[0]).name == 'ampctl' else 'ampd'}.cli").main()
    except SystemExit as _ending:
        if isinstance(_ending.code, int):
            _exit_code.append(_ending.code)
        raise
