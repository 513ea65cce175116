"""Looks after the process that serves: the certificates that it has, and the files that it may open."""

import logging
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from amp_workers.web.security import Security

_LOOK_SECONDS = 1.0
_SPARE_FILES = 8

_log = logging.getLogger("amp_workers.web")


@contextmanager
def watch(security: Security, renew: Callable[[], None], warn: Callable[[], None]) -> Iterator[None]:
    """Watch as long as the block runs. `renew` starts another process that serves, then ends the one before. `warn` is
    called where something else protects the server from now on.
    """
    ended = threading.Event()

    def look_after() -> None:
        while not ended.wait(_LOOK_SECONDS):
            tls = security.tls
            if security.look(tell=True):
                warn()
            if security.tls != tls:
                renew()
            elif tls is not None and _has_no_file_left():
                # Granian counts connections only after their greeting. One that it has no file for has it try again,
                # and do nothing else, for ever.
                _log.error("the process that serves has no file left to open, and is renewed: too many connections")
                renew()

    watching = threading.Thread(target=look_after, name="watch", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _has_no_file_left() -> bool:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with suppress(psutil.Error, OSError):
        serving = psutil.Process().children()
        # Of two, one is being renewed already.
        return len(serving) == 1 and serving[0].num_fds() > limit - _SPARE_FILES
    return False
