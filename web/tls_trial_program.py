"""Loads a certificate as the server does, and ends. Run by its path, with the paths of chain, key and authorities, and
the oldest version: it exits with 0 where the server would serve, and otherwise dies as the server would."""

import asyncio
import resource
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

from granian._futures import _new_cbscheduler
from granian._granian import SocketHolder, WSGIWorker
from granian._signals import set_sync_signals
from granian.constants import HTTPModes
from granian.http import HTTP1Settings

_Worker: Any = WSGIWorker
"""Granian's declaration of it is not that of what it is."""

_ENDS_WITHIN_SECONDS = 15.0


def main(chain: str, key: str, client_ca: str, oldest: str) -> int:
    with suppress(OSError, ValueError):  # forbidden by the service manager, which then has forbidden cores as well
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # there would be the key in it
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")
    listener.listen()
    holder = SocketHolder(listener.detach(), True, 1)  # type: ignore[call-arg] # as in web/server.py
    tls: tuple[Any, ...] = (True, chain, key, None, oldest, client_ca or None, [], bool(client_ca))
    plain: tuple[Any, ...] = (HTTPModes.http1, HTTP1Settings(), None, None)
    worker = _Worker(1, (None, holder), None, 1, 1, 1, 1, 1, *plain, *tls, (None, None))
    ended = threading.Event()
    end = set_sync_signals()  # type: ignore[no-untyped-call]
    end.add_cb(ended.set)
    # It loads the certificate before it looks whether it is to end.
    scheduler = _new_cbscheduler(asyncio.new_event_loop(), lambda *_: None, True)  # type: ignore[no-untyped-call]
    worker.serve_mtr_uds(scheduler, None, end)
    end.set()
    return 0 if ended.wait(_ENDS_WITHIN_SECONDS) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
