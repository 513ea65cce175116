"""Runs commands of the project and of others as real processes that end with the test."""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from tests.fork_server import ForkedProcess, ForkServer, can_fork

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

Found = TypeVar("Found")


PATIENCE_SECONDS = 60.0
"""For a machine so busy that a process may wait seconds for the processor, several times."""


def eventually(look: Callable[[], Found | None], seconds: float = PATIENCE_SECONDS) -> Found:
    """Return the first true result. Until time is up, an assertion error and a connection error count as a false
    result.
    """
    ends = time.monotonic() + seconds
    while True:
        # The last call starts after the deadline: the call before may have been delayed for the whole time.
        is_last = time.monotonic() > ends
        try:
            found = look()
            if found:
                return found
            problem: object = found
        except (AssertionError, OSError, HTTPException) as error:
            problem = error
        if is_last:
            raise AssertionError(f"not within {seconds} s: {problem!r}")
        time.sleep(0.05)


PORTS = range(15_000, 32_000)
"""Below the ports that the kernel assigns to clients, and to servers that request any port."""

_MARKS = 32
"""The number of ports that this process keeps marked: more than any test requests before its servers listen."""

_marks: deque[socket.socket] = deque()


def free_port() -> int:
    """Return a free port of 127.0.0.1 that no other test on this machine gets meanwhile.

    Seconds may pass until its server listens. The mark of the port is an abstract socket in the network namespace,
    which ends with this process.
    """
    while True:
        port = random.choice(PORTS)  # noqa: S311 - no secret
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0amp-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        _marks.append(mark)
        if len(_marks) > _MARKS:
            _marks.popleft().close()
        return port


def tool(name: str) -> str:
    """Return a program's path. If it is missing, the test fails in CI and is skipped elsewhere, with the reason."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed, and tests/tools/fetch could not fetch it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def get(url: str, headers: Mapping[str, str] | None = None, timeout: float = 10.0) -> str:
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            body: bytes = response.read()
            return body.decode()
    except urllib.error.HTTPError as error:
        error.close()
        raise


class Process:
    """A process of the project. Its output is kept in a file."""

    def __init__(self, popen: subprocess.Popen[bytes] | ForkedProcess, output: Path) -> None:
        self.popen = popen
        self._output = output

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def says(self, text: str, seconds: float = PATIENCE_SECONDS, times: int = 1) -> None:
        """Wait until the output contains a text."""

        def look() -> bool:
            assert self.output.count(text) >= times, f"no «{text}» in:\n{self.output}"
            return True

        eventually(look, seconds)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def freeze(self) -> None:
        freeze(self.pid)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.output}") from None

    def stop(self, seconds: float = PATIENCE_SECONDS) -> int:
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def end(self) -> None:
        """End all its processes, whatever the test did."""
        if self.popen.poll() is not None:
            return  # another process may have this pid by now
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in [psutil.Process(self.pid), *self.descendants()]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.popen.wait()


def _execute(command: Sequence[str], output: int, environment: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=cwd)


@cache
def _fork_server() -> ForkServer:
    server = ForkServer(clean_environment())
    atexit.register(server.end)
    return server


class Processes:
    """Starts processes with a clean environment, and ends them all."""

    def __init__(self, directory: Path, *, forks_ampd: bool = False) -> None:
        """forks_ampd: whether `ampd` is started by a fork server where that is equivalent."""
        self._directory = directory
        self._forks_ampd = forks_ampd
        self.started: list[Process] = []

    def start(self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Process:
        return self._start(_execute, command, cwd, env or {})

    def ampd(self, *arguments: str, database: str | None = None, env: Mapping[str, str] | None = None) -> Process:
        """Start `ampd`, with the URL of its database in its environment."""
        command = (str(BIN / "ampd"), *arguments)
        variables = ({} if database is None else {"AMP_METADATA_DB_URL": database}) | dict(env or {})
        is_forked = self._forks_ampd and can_fork(command, variables)
        return self._start(_fork_server().start if is_forked else _execute, command, None, variables)

    def _start(
        self,
        start: Callable[[Sequence[str], int, Mapping[str, str], Path], subprocess.Popen[bytes] | ForkedProcess],
        command: Sequence[str],
        cwd: Path | None,
        env: Mapping[str, str],
    ) -> Process:
        output = self._directory / f"{len(self.started)}-{Path(command[0]).name}.log"
        with output.open("wb") as file:
            popen = start(command, file.fileno(), clean_environment() | dict(env), cwd or self._directory)
        self.started.append(Process(popen, output))
        return self.started[-1]

    def end(self) -> None:
        for process in reversed(self.started):
            process.end()


def command_lines(*pids: int) -> str:
    """Return the command lines of processes as `ps` shows them, without needing `ps`. A process that has ended has
    none.
    """
    shown = ""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            shown += Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") + "\n"
    return shown


def clean_environment() -> dict[str, str]:
    """Return the environment without variables of Amp, PostgreSQL and Python. The PATH has the project's commands.

    A deprecation warning of Python is an error, in the tests and in the processes that they start.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AMP_", "PG", "PYTHON"))}
    return environment | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONWARNINGS": "error::DeprecationWarning"}


def run(
    *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, seconds: int = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a clean environment with additional variables. seconds: its longest time."""
    environment = clean_environment() | dict(env or {})
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=seconds, check=False, cwd=cwd
    )


def run_ampctl(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `ampctl` as `run` does, started by a fork server where that is equivalent."""
    command, variables = (str(BIN / "ampctl"), *arguments), dict(env or {})
    if not can_fork(command, variables):
        return run("ampctl", *arguments, env=env)
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as error:
        environment = clean_environment() | variables
        started = _fork_server().start(command, output.fileno(), environment, Path.cwd(), error.fileno())
        status = started.wait(60)
        output.seek(0)
        error.seek(0)
        return subprocess.CompletedProcess(command, status, output.read(), error.read())


def freeze(pid: int) -> None:
    """Send SIGSTOP to a process, and return when all its threads have stopped. Each thread stops when the kernel
    schedules it next, and may respond until then.
    """
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: _states(pid) == {"T"})


def _states(pid: int) -> set[str]:
    return {_state(thread / "stat") for thread in Path(f"/proc/{pid}/task").iterdir()}


def _state(stat: Path) -> str:
    return stat.read_text().rpartition(") ")[2][0]


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process and its children with SIGSTOP, and resume them afterwards."""
    family = [psutil.Process(pid)]
    freeze(pid)
    # The children at this moment. One of them may have ended and may not be reaped yet.
    for child in family[0].children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.suspend()
            family.append(child)
    try:
        eventually(lambda: all(_states(child.pid) <= {"T", "Z", "X"} for child in family if child.is_running()))
        yield
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
