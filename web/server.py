"""A Flask application served by Granian."""

import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from flask import Flask
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketHolder  # type: ignore[attr-defined] # it is there for this
from granian.server.mp import MPServer

from amp_workers.web.alert import Alert
from amp_workers.web.certificates import openssl_context
from amp_workers.web.exposure import is_exposed, warn
from amp_workers.web.guard import guard
from amp_workers.web.listen import BACKLOG, ListenAddress
from amp_workers.web.memory_file import MemoryFile
from amp_workers.web.passwords import AT_IT
from amp_workers.web.places import WAITING, bound_requests
from amp_workers.web.security import Security
from amp_workers.web.terminator import PrivateListener, Terminator
from amp_workers.web.watch import watch

_HEADER_READ_TIMEOUT_MS = 10_000
_HEADER_BYTES = 64 * 1024
_UNREAD_MS = 30_000
"""A client that takes nothing more of an answer for so long is cut off."""

_CONNECTIONS = 16_384
_OTHER_FILES = 256
"""What the process opens beside connections, and to spare: Granian does not survive having no file left."""

_IDLE_THREAD_SECONDS = 10
_HANDOVER_SECONDS = 1.0
_STOP_SECONDS = 3
_PR_SET_PDEATHSIG = 1

_log = logging.getLogger("amp_workers.web")


class _Server(MPServer):
    """Has all its processes, one after another, accept from one socket: what waits there survives a change of them."""

    def __init__(self, listener: socket.socket, **settings: Any) -> None:
        super().__init__("", **settings)
        self.accept_from(listener)

    def accept_from(self, listener: socket.socket) -> None:
        """Have the next process that serves accept from this socket."""
        is_unix = listener.family == socket.AF_UNIX
        self._accepting = listener, SocketHolder(listener.fileno(), is_unix, BACKLOG)  # type: ignore[call-arg]
        self._init_shared_socket()

    def _init_shared_socket(self) -> None:
        self._ssp = None
        self._sso, self._shd = self._accepting  # type: ignore[assignment]


def serve(
    create_app: Callable[[], Flask], address: ListenAddress, security: Security, *, name: str, threads: int
) -> None:
    """Serve until SIGTERM or SIGINT, then let what is under way finish.

    create_app: called in the process that serves, a child of this one, so that what it opens is its own.
    name: the process's title. threads: for requests that are under way; a quarter of them are for health and
    readiness alone. Requests that wait to be under way, or for a password to be verified, have threads besides.

    Raises:
        AddressInUse: the address is not free.
    """
    listener = address.listen()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
    security.exposed = is_exposed(listener)
    warn(name, security)
    parent = os.getpid()
    connections = _connections()
    served = security.config
    terminator: Terminator | None = None

    def load() -> Any:
        _die_with(parent)
        _forget_requests()
        app = create_app()
        # Whoever does not get in takes no place from those who do.
        guard(app, security, served)
        bound_requests(app, threads * 3 // 4)
        if terminator is not None:
            terminator.start()
        _share_fairly()
        return app

    server = _Server(
        listener,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=threads + WAITING + AT_IT,
        blocking_threads_idle_timeout=_IDLE_THREAD_SECONDS,
        backlog=BACKLOG,
        backpressure=connections,
        # Of HTTP/2, and of a choice between both, Granian ends no connection that says nothing.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_READ_TIMEOUT_MS, max_buffer_size=_HEADER_BYTES),
        websockets=False,
        # Killed, it is started again by its parent; killed again at once, the parent gives up and exits with 1.
        respawn_failed_workers=True,
        respawn_interval=_HANDOVER_SECONDS,
        workers_kill_timeout=_STOP_SECONDS,
        process_name=name,
        # Its own notes on spawning and stopping are of no use to an operator; its errors are.
        log_level=LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {}}, "handlers": {}, "formatters": {}},
    )
    held: tuple[MemoryFile, ...] = ()
    behind: PrivateListener | None = None

    def use_tls() -> None:
        """Give the next process that serves the certificates of now. It must find what was checked, not what a file has
        by then, and finds it again when it has to be started once more."""
        nonlocal held, served, terminator, behind
        served = security.config
        tls = served.tls
        server.ssl_ctx = (False, None, None, None, "tls1.2", None, [], False)
        terminator = None
        server.accept_from(listener)
        if tls is None:
            return
        if tls.client_names:
            behind = behind or PrivateListener()
            context = openssl_context(tls)
            terminator = Terminator(listener, context, tls.client_names, behind.path, connections // 3)
            server.accept_from(behind.socket)
            return
        held = tuple(MemoryFile(pem) for pem in (tls.chain, tls.key, tls.client_ca or b""))
        chain, key, client_ca = (file.path for file in held)
        verified = served.demands_certificates
        ca = client_ca if verified else None
        server.ssl_ctx = (True, chain, key, None, tls.oldest, ca, [], verified)  # type: ignore[assignment]

    server.main_loop_interrupt = Alert()
    server.on_reload(use_tls)
    use_tls()
    _log.info("%s listens on %s", name, address.url if security.tls is None else f"https://{address}")
    with watch(security, server.signal_handler_reload, lambda: warn(name, security)):
        server.serve(target_loader=load, wrap_loader=False)
    # Python takes its handlers away before it ends: one more signal then would be the end that the caller is told of.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _log.info("%s stopped", name)


def _connections() -> int:
    """Have as many files as may be, and return how many connections that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _CONNECTIONS  # TLS: those that are still greeting are not counted
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    else:
        limit = wanted if soft == resource.RLIM_INFINITY else soft
    return max(128, min(_CONNECTIONS, limit - _OTHER_FILES))


def _forget_requests() -> None:
    """Take out of the environment what a request would seem to have brought: Granian adds the one to the other."""
    for variable in list(os.environ):
        if variable == "REMOTE_USER" or variable.startswith("HTTP_"):
            del os.environ[variable]


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
