"""The signals that stop an `ampd` process."""

import signal

_REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stop_signals() -> frozenset[signal.Signals]:
    """Return the signals that stop this process: SIGTERM, SIGINT and SIGHUP, the end of a terminal.

    A signal that the process inherited as ignored stays ignored, as `nohup` and a shell's `&` require.
    """
    return frozenset(number for number in _REQUESTS if signal.getsignal(number) is not signal.SIG_IGN)
