"""Settings that the kernel keeps for a process: prctl(2).

They belong to no room, because rooms do not import each other.
"""

import ctypes
import os
import shutil
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Make this process a subreaper: each descendant whose own parent ends becomes its child."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_with_parent(number: int) -> None:
    """Have the kernel signal this process when its parent ends.

    For the kernel, the parent is the thread that started the process: start processes from the main thread only.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


def with_parent(number: signal.Signals) -> list[str]:
    """Return a prefix of a command line that does the same for the command, where util-linux is installed.

    A process that has threads cannot safely run code between fork and exec.
    """
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", number.name.removeprefix("SIG"), "--"]


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
