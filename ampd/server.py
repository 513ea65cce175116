"""Runs a server of `ampd` from its first import to the end of its process."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from amp_workers.ampd.self_probe import SelfProbe
from amp_workers.ampd.signals import stop_signals
from amp_workers.ampd.systemd import ServiceManager
from amp_workers.web import AddressInUse, ListenAddress, Policy

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
    """Serve until a signal asks the process to stop, and end it with 0.

    Raises click.ClickException where an address cannot be listened on.
    """
    from amp_workers.web.server.process import serve

    with ServiceManager(os.environ).watching(SelfProbe(addresses[0])):
        try:
            listeners = [address.listen() for address in addresses]
        except AddressInUse as error:
            raise click.ClickException(f"{error}. Choose another with --web.listen-address.") from error
        serve(create_app, listeners, policy, name=name, threads=threads, stop_signals=stop_signals())
    # A thread may still wait for the metadata DB, and Python would wait for the thread.
    logging.shutdown()
    os._exit(0)
