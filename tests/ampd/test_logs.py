"""Logging in a process that has threads and forks, as the parents of our servers do."""

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
    """Whether a writer of the pipe waits."""
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
        time.sleep(0.1)  # it forks; longer, and the child would give up a pipe that nobody reads
        output = process.communicate(timeout=60)[1].decode()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the child as well
            process.wait()
    assert process.returncode == 0
    assert "the child" in output
    assert "the parent" in output
