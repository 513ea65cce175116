"""Runs a server of `ampd` from its first import to the end of its process."""

import asyncio
import gc
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from flask import Flask
from prometheus_client import CollectorRegistry

from amp_workers.ampd.listen_address import ListenAddress
from amp_workers.ampd.self_probe import SelfProbe
from amp_workers.ampd.signals import stop_signals
from amp_workers.ampd.systemd import ServiceManager
from amp_workers.web import Policy, server_registry
from amp_workers.web.server.application import Application
from amp_workers.web.server.connections import Connections

_MAX_CONNECTIONS = 16_384
_OTHER_FILES = 256
"""File descriptors for everything but connections."""

_DRAIN_SECONDS = 3.0

_SWITCH_SECONDS = 0.001
"""Threads take turns five times as often as by default, so that the event loop waits less for threads that compute. At
0.2 ms, 8 such threads on one core serve a third of the requests."""

_log = logging.getLogger("amp_workers.web")


def run_server(
    create_app: Callable[[CollectorRegistry], Flask],
    addresses: Sequence[ListenAddress],
    policy: Policy,
    *,
    name: str,
    threads: int,
) -> NoReturn:
    """Serve until a stop signal arrives, then let running responses end, and exit with 0.

    create_app: gets the registry of the server's own metrics. name: the server's, for the log. threads: for requests
    that run at the same time.

    Raises click.ClickException where it cannot listen on an address.
    """
    with ServiceManager(os.environ).watching(SelfProbe(addresses[0])):
        listeners = [address.listen("--web.listen-address") for address in addresses]
        policy.exposed = not all(map(_is_loopback, listeners))
        policy.warn_of_weaknesses(name)
        app = create_app(server_registry(policy))
        threading.Thread(target=policy.keep_reloading, name="reload", daemon=True).start()
        _share_fairly()
        # The loop is not closed: closing restores the signals' default actions, and another SIGTERM would kill.
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        for number in stop_signals():
            loop.add_signal_handler(number, stop.set)
        loop.run_until_complete(_serve(Application(app, policy, threads), policy, listeners, name, stop))
        for number in stop_signals():
            signal.signal(number, signal.SIG_IGN)
        _log.info("%s stopped", name)
    # A thread may still wait for the metadata DB, and Python would wait for the thread.
    logging.shutdown()
    os._exit(0)


async def _serve(
    application: Application, policy: Policy, listeners: Sequence[socket.socket], name: str, stop: asyncio.Event
) -> None:
    connections = Connections(application, policy, listeners, _connection_limit())
    connections.accept()
    for listener in listeners:
        scheme, (host, port, *_) = "http" if policy.config.tls is None else "https", listener.getsockname()
        _log.info("%s listens on %s://%s:%s", name, scheme, f"[{host}]" if ":" in host else host, port)
    await stop.wait()
    await connections.drain(_DRAIN_SECONDS)


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def _connection_limit() -> int:
    """Raise the limit of open files as far as connections need it, and return how many connections fit into it."""
    wanted = _MAX_CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # RLIM_INFINITY is -1. Linux has no infinite limit of open files, but a sandbox may report one.
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(32, limit - _OTHER_FILES)


def _share_fairly() -> None:
    """Keep one long request, for example a scrape of 100,000 workers, from delaying `/-/healthy`."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Exempt what exists by now. A full garbage collection would traverse its 150,000 objects each time, and stop all
    # threads for 40 ms.
    gc.collect()
    gc.freeze()
    gc.enable()
