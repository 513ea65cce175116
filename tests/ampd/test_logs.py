"""Logging in a process with threads that forks, as the parent process of our servers does."""

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import IO

from tests.processes import ROOT, clean_environment, eventually

FORKS = """
import logging, os, threading
from amp_workers.ampd.logs import configure_logs, never_block_standard_error

never_block_standard_error()
configure_logs()
log = logging.getLogger("amp_workers.web")
threading.Thread(target=log.info, args=("x" * 100_000,)).start()
os.read(0, 1)
child = os.fork()
log.info("the child" if child == 0 else "the parent")
child or (logging.shutdown(), os._exit(0))
os.waitpid(child, 0)
"""


def is_full(pipe: IO[bytes]) -> bool:
    """Whether the pipe is full and its writer waits."""
    waiting = fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4)
    return bool(struct.unpack("i", waiting)[0] >= fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ))


def test_a_child_that_was_forked_while_another_thread_wrote_a_line_can_log() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    stderr = process.stderr
    assert stderr is not None
    try:
        eventually(lambda: is_full(stderr))
        process.stdin.write(b".")
        process.stdin.flush()
        time.sleep(0.1)  # time for the fork; after a longer pause, the child would give up the unread pipe
        output = process.communicate(timeout=60)[1].decode()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the child exits as well
            process.wait()
    assert process.returncode == 0
    assert "the child" in output
    assert "the parent" in output
