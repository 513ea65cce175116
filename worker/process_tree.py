"""The descendants of this process, including orphans, which it adopts as their subreaper."""

import ctypes
import os

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the subreaper: a descendant whose parent ends becomes a child of this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_with_parent(number: int) -> None:
    """Make the kernel send this process a signal when the parent's thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def signal_all(number: int) -> list[str]:
    """Send a signal to every descendant; return the names of those that received it."""
    signalled = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                process.send_signal(number)
                signalled.append(f"{process.name()} ({process.pid})")
        except psutil.Error:
            continue  # it ended meanwhile, or is another user's by now
    return signalled


def reap() -> tuple[dict[int, int], bool]:
    """Collect the children that have ended.

    Returns their exit statuses by pid, -N for one that died of signal N, and whether there is any other child.
    """
    statuses: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return statuses, False
        if pid == 0:
            return statuses, True
        statuses[pid] = os.waitstatus_to_exitcode(status)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
