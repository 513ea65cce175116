"""The descendants of this process, including orphans, which it adopts as their subreaper."""

import os

import psutil


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
