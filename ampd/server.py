"""Runs a server of `ampd` from its first import to the end of its process."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from amp_workers.ampd.listen_address import ListenAddress
from amp_workers.ampd.self_probe import SelfProbe
from amp_workers.ampd.signals import stop_signals
from amp_workers.ampd.systemd import ServiceManager
from amp_workers.web import Policy

if TYPE_CHECKING:
    from flask import Flask
    from prometheus_client import CollectorRegistry


def run_server(
    create_app: "Callable[[CollectorRegistry], Flask]",
    addresses: Sequence[ListenAddress],
    policy: Policy,
    *,
    name: str,
    threads: int,
) -> NoReturn:
    """Serve until a stop signal arrives, then exit with 0.

    Raises click.ClickException where it cannot listen on an address.
    """
    from amp_workers.web.server.process import serve

    with ServiceManager(os.environ).watching(SelfProbe(addresses[0])):
        listeners = [address.listen("--web.listen-address") for address in addresses]
        serve(create_app, listeners, policy, name=name, threads=threads, stop_signals=stop_signals())
    # A thread may still wait for the metadata DB, and Python would wait for the thread.
    logging.shutdown()
    os._exit(0)
