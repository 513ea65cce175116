"""An output without a reader blocks no process; an output with a reader loses no line."""

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import BIN, PATIENCE_SECONDS, ROOT, clean_environment, eventually, free_port, get, run

pytestmark = pytest.mark.slow

PIPE_BYTES = 4096


@contextmanager
def started(command: list[str], stderr: int, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        env=clean_environment() | env,
        stdin=subprocess.DEVNULL,
        stdout=stderr,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def full_pipe() -> Iterator[int]:
    """A pipe that is full from the beginning and has no reader."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.write(writing, b"x" * PIPE_BYTES)
    yield writing
    os.close(reading)
    os.close(writing)


@contextmanager
def closed_pipe() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def full_disk() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def frozen_terminal() -> Iterator[int]:
    master, terminal = pty.openpty()
    termios.tcflow(terminal, termios.TCOOFF)  # as Ctrl-S does
    yield terminal
    os.close(master)
    os.close(terminal)


UNREAD = [full_pipe, closed_pipe, full_disk, frozen_terminal]


@pytest.mark.parametrize("unread", UNREAD)
@pytest.mark.parametrize("program", [[], ["--", "sleep", "300"]])
def test_a_worker_sends_heartbeats_and_records_its_stop(
    unread: Callable[[], Any], program: list[str], database: str, sql: Callable[..., list[Any]]
) -> None:
    command = [str(BIN / "ampd"), "worker", "--node-id=w", *program]
    # The worker writes its first line before it forks the program's guard.
    env = {"AMP_METADATA_DB_URL": database, "AMP_LOG": "debug,amp=trace"}
    with unread() as stderr, started(command, stderr, env) as worker:

        def heartbeats() -> bool:
            rows = sql("SELECT heartbeat_at > registered_at + interval '1.5 s' FROM workers WHERE node_id = 'w'")
            return rows == [(True,)]

        eventually(heartbeats)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == (128 + signal.SIGTERM if program else 0)
    assert sql("SELECT info ? 'stopped_at' FROM workers WHERE node_id = 'w'") == [(True,)]


@pytest.mark.parametrize("command", ["admin", "exporter"])
def test_a_server_answers_and_stops(command: str, database: str) -> None:
    port = free_port()
    arguments = [str(BIN / "ampd"), command, f"--web.listen-address=127.0.0.1:{port}"]
    with full_pipe() as stderr, started(arguments, stderr, {"AMP_METADATA_DB_URL": database}) as server:
        eventually(lambda: get(f"http://127.0.0.1:{port}/-/ready"))
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_SECONDS) == 0


def test_solo_stops(open_directory: Path) -> None:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    arguments = [str(BIN / "ampd"), "solo", f"--data-dir={open_directory / 'unread'}"]
    arguments += [f"--admin.listen-address={addresses[0]}", f"--exporter.listen-address={addresses[1]}"]
    with full_pipe() as stderr, started(arguments, stderr, {}) as solo:
        eventually(lambda: 'amp_workers{state="active"} 1.0' in get(f"http://{addresses[1]}/metrics"), 60)
        solo.send_signal(signal.SIGTERM)
        assert solo.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("arguments", [["bogus"], ["worker"], ["migrate"]])
def test_an_error_message_without_a_reader_does_not_block_the_exit(arguments: list[str]) -> None:
    with full_pipe() as stderr, started([str(BIN / "ampd"), *arguments], stderr, {}) as command:
        assert command.wait(PATIENCE_SECONDS) == 2


def test_standard_error_may_be_closed(database: str, sql: Callable[..., list[Any]]) -> None:
    """The session with the metadata DB must not get the descriptor number 2."""
    command = ["sh", "-c", "exec ampd worker --node-id=w -- sleep 2 2>&- <&-"]
    with started(command, subprocess.DEVNULL, {"AMP_METADATA_DB_URL": database, "AMP_LOG": "debug"}) as worker:
        assert worker.wait(PATIENCE_SECONDS) == 0
    assert sql("SELECT info ? 'stopped_at' FROM workers WHERE node_id = 'w'") == [(True,)]


LINES = """
import logging, sys
from amp_workers.ampd.logs import configure_logs, never_block_standard_error

never_block_standard_error()
configure_logs()
for number in range(int(sys.argv[1])):
    logging.getLogger("amp_workers.worker").info("line %05d " + "x" * 200, number)
print("done", flush=True)
sys.stdin.read()
"""


def lines(count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", LINES, str(count)],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_no_line_is_lost_at_exit() -> None:
    with lines(3_000) as process:
        output = process.communicate(timeout=60)[1].decode()
    assert re.findall(r"line (\d+)", output) == [f"{number:05}" for number in range(3_000)]


WITHOUT_THREADS = """
import logging, sys, threading
from amp_workers.ampd.logs import configure_logs, never_block_standard_error

never_block_standard_error()
configure_logs()
threading.stack_size(2**60)  # larger than the address space: no thread starts, as at the limit of processes
for number in range(100):
    logging.getLogger("amp_workers.worker").info("line %05d " + "x" * 200, number)
if sys.argv[1] == "later":
    threading.stack_size(0)
    logging.getLogger("amp_workers.worker").info("line %05d", 100)
"""


@pytest.mark.parametrize(("threads", "count"), [("never", 100), ("later", 101)])
def test_no_line_is_lost_while_no_thread_can_start(threads: str, count: int) -> None:
    output = run(sys.executable, "-c", WITHOUT_THREADS, threads).stderr
    assert re.findall(r"line (\d+)", output) == [f"{number:05}" for number in range(count)]
    assert "Traceback" not in output


def test_an_exit_without_threads_does_not_wait_for_a_reader() -> None:
    with full_pipe() as stderr, started([sys.executable, "-c", WITHOUT_THREADS, "never"], stderr, {}) as process:
        assert process.wait(PATIENCE_SECONDS) == 0


def test_dropped_lines_are_counted() -> None:
    with lines(20_000) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"  # the log had no reader until now
        output = process.communicate(timeout=60)[1].decode()
    written = len(re.findall(r"line \d{5}", output))
    dropped = [int(count) for count in re.findall(r'msg="(\d+) lines dropped', output)]
    assert 3_000 < written < 20_000
    assert written + sum(dropped) == 20_000
