"""A WSGI application served by Granian."""

import ctypes
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server

from web.listen import ListenAddress

_HEADER_READ_TIMEOUT_MS = 10_000
_IDLE_THREAD_SECONDS = 10
_STOP_SECONDS = 3
_PR_SET_PDEATHSIG = 1

_log = logging.getLogger("web")


def serve(create_app: Callable[[], Any], address: ListenAddress, *, name: str, threads: int) -> None:
    """Serve until SIGTERM or SIGINT, then let what is under way finish.

    create_app: called in the process that serves, a child of this one, so that what it opens is its own.
    name: the process's title. threads: how many requests may wait at the same time.

    Raises:
        AddressInUse: the address is not free.
    """
    bound = address.resolve()
    parent = os.getpid()

    def load() -> Any:
        _die_with(parent)
        app = create_app()
        _share_fairly()
        return app

    server = Server(
        name,
        address=bound.host,
        port=bound.port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=threads,
        blocking_threads_idle_timeout=_IDLE_THREAD_SECONDS,
        backlog=1024,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_READ_TIMEOUT_MS),
        websockets=False,
        # Killed, it is started again by its parent; killed again at once, the parent gives up and exits with 1.
        respawn_failed_workers=True,
        workers_kill_timeout=_STOP_SECONDS,
        process_name=name,
        # Its own notes on spawning and stopping are of no use to an operator; its errors are.
        log_level=LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {}}, "handlers": {}, "formatters": {}},
    )
    _log.info("%s listens on %s", name, address.url)
    server.serve(target_loader=load, wrap_loader=False)
    _log.info("%s stopped", name)


def _share_fairly() -> None:
    """Keep one long request, a scrape of 100,000 workers say, from holding up `/-/healthy`."""
    # Threads take turns five times as often as they would.
    sys.setswitchinterval(0.001)
    # What is there by now stays. A full garbage collection would look through its 150,000 objects each time, and
    # stop all threads for some 40 ms.
    gc.collect()
    gc.freeze()


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent is killed: it would hold the port for ever otherwise."""
    if sys.platform == "linux":
        # SIGKILL: this early, a handler of the parent that was forked along would swallow anything else.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent process is gone")
