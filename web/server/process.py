"""Serves a Flask application for as long as the process lives."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Collection, Sequence

from flask import Flask
from prometheus_client import CollectorRegistry

from amp_workers.web.metrics import server_registry
from amp_workers.web.policy import Policy
from amp_workers.web.server.application import Application
from amp_workers.web.server.connections import Connections
from amp_workers.web.server.listen import is_exposed

_DRAIN_SECONDS = 3.0

_SWITCH_SECONDS = 0.001
"""Threads take turns five times as often as by default, so that the event loop waits less for threads that compute. At
0.2 ms, 8 such threads on one core serve a third of the requests."""

_log = logging.getLogger("amp_workers.web")


def serve(
    create_app: Callable[[CollectorRegistry], Flask],
    listeners: Sequence[socket.socket],
    policy: Policy,
    *,
    name: str,
    threads: int,
    stop_signals: Collection[signal.Signals],
) -> None:
    """Serve until one of the stop signals arrives, then let running responses end.

    A thread may be busy for longer, so that the caller should end the process with `os._exit`.

    create_app: gets the registry of the server's own metrics. name: the server's, for the log. threads: for requests
    that run at the same time.
    """
    policy.exposed = any(map(is_exposed, listeners))
    policy.warn_of_weaknesses(name)
    app = create_app(server_registry(policy))
    policy.keep_reloading()
    _share_fairly()
    scheme = "http" if policy.config.tls is None else "https"
    # The loop is not closed: closing restores the signals' default actions, and another SIGTERM would kill.
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    for number in stop_signals:
        loop.add_signal_handler(number, stop.set)
    application = Application(app, policy, threads)
    loop.run_until_complete(_serve(application, listeners, policy, f"{name} listens on {scheme}", stop))
    for number in stop_signals:
        signal.signal(number, signal.SIG_IGN)
    _log.info("%s stopped", name)


async def _serve(
    application: Application, listeners: Sequence[socket.socket], policy: Policy, listens_on: str, stop: asyncio.Event
) -> None:
    connections = Connections(application, policy, listeners)
    connections.accept()
    for listener in listeners:
        host, port = listener.getsockname()[:2]
        _log.info("%s://%s:%s", listens_on, f"[{host}]" if ":" in host else host, port)
    await stop.wait()
    await connections.drain(_DRAIN_SECONDS)


def _share_fairly() -> None:
    """Keep one long request, for example a scrape of 100,000 workers, from delaying `/-/healthy`."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Exempt what exists by now. A full garbage collection would traverse its 150,000 objects each time, and stop all
    # threads for 40 ms.
    gc.collect()
    gc.freeze()
    gc.enable()
