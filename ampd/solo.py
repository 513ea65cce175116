"""`ampd solo`: a small fleet on one machine, with an embedded PostgreSQL."""

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NoReturn

import click

from amp_workers.ampd.admin import DEFAULT_LISTEN_ADDRESS as ADMIN_ADDRESS
from amp_workers.ampd.command import command, log_arguments
from amp_workers.ampd.data_directory import DataDirectoryError, data_directory
from amp_workers.ampd.exporter import DEFAULT_LISTEN_ADDRESS as EXPORTER_ADDRESS
from amp_workers.ampd.listen_address import ListenAddress
from amp_workers.ampd.logs import ENVIRONMENT as LOG_ENVIRONMENT
from amp_workers.ampd.logs import log_level
from amp_workers.ampd.options import listen_option
from amp_workers.ampd.output import unblocked
from amp_workers.ampd.signals import stop_signals
from amp_workers.ampd.supervisor import Command, Supervisor
from amp_workers.ampd.systemd import ENVIRONMENT as SERVICE_MANAGER_ENVIRONMENT
from amp_workers.ampd.url_file import ENVIRONMENT as URL_FILE_ENVIRONMENT
from amp_workers.metadata_db import ENVIRONMENT as URL_ENVIRONMENT
from amp_workers.metadata_db import MetadataDbError, MetadataDbUrl
from amp_workers.prctl import with_parent

Addresses = tuple[ListenAddress, ...]

_ADMIN_OPTION, _EXPORTER_OPTION = "--admin.listen-address", "--exporter.listen-address"

_STOP_SECONDS = 3.4
_STOP_POSTGRES_SECONDS = 1.5
"""Together less than 5 s. A worker that is killed before it has recorded its stop would become lost."""

_TICK_SECONDS = 0.1

_PORTS_TRIED = 20
"""How many ports above one that is in use are tried, to name a free one."""

_PORT_PATIENCE_SECONDS = 2.0
"""The child processes of a solo that was killed end by themselves, and hold their ports until then."""


_NOT_FOR_CHILDREN = {*URL_ENVIRONMENT, URL_FILE_ENVIRONMENT, *SERVICE_MANAGER_ENVIRONMENT}
"""Variables that name another metadata DB, or let a child speak for this process to systemd."""


class _Interrupted(BaseException):
    """Raised by the signal handler, at any point of the program."""


@command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=".amp",
    show_default=True,
    help="Directory of the metadata DB. The next start uses it again.",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 80),
    default=1,
    show_default=True,
    help="How many workers to run: worker-01, worker-02 and so on.",
)
@listen_option(_ADMIN_OPTION, ADMIN_ADDRESS, "admin_addresses")
@listen_option(_EXPORTER_OPTION, EXPORTER_ADDRESS, "exporter_addresses")
def solo(data_dir: Path, workers: int, admin_addresses: Addresses, exporter_addresses: Addresses) -> None:
    """Run a small fleet on this machine: metadata DB, workers, Admin API and exporter.

    It includes a PostgreSQL, which listens on no network. A process that exits is restarted. Ctrl-C stops
    everything; the data stays.

    \b
    Example:
      ampd solo --workers 3
      ampctl worker list
    """
    for address in set(admin_addresses).intersection(exporter_addresses):
        raise click.UsageError(f"{_ADMIN_OPTION} and {_EXPORTER_OPTION} are both {address}.")
    sys.stdout = unblocked(sys.stdout.fileno(), lambda lines: f"({lines} lines dropped)") if sys.stdout else sys.stdout
    for signal_number in stop_signals():
        signal.signal(signal_number, _interrupt)
    try:
        with data_directory(data_dir.absolute()) as directory:
            _run(directory, workers, admin_addresses, exporter_addresses)
    except DataDirectoryError as error:
        raise click.ClickException(str(error)) from error
    except _Interrupted:
        sys.exit(0)


def _run(directory: Path, workers: int, admin_addresses: Addresses, exporter_addresses: Addresses) -> None:
    from amp_workers.metadata_db.embedded import (
        EmbeddedPostgres,
        EmbeddedPostgresError,
        account,
        find_place,
        ignore_libpq_environment,
    )
    from amp_workers.metadata_db.migrate import upgrade

    _await_free({_ADMIN_OPTION: admin_addresses, _EXPORTER_OPTION: exporter_addresses})
    ignore_libpq_environment(os.environ)
    children: list[Command] = []
    try:
        owner = account()
        place = find_place(directory / "postgres", owner)
        if place.moved_because is not None:
            _say(f"{place.moved_because}: the metadata DB is kept in {place.directory} instead")
        postgres = EmbeddedPostgres(place, owner)
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error
    try:
        _say("starting PostgreSQL")
        postgres.start(_say)
        upgrade(MetadataDbUrl.parse(postgres.url))
        _say(f"starting {workers} workers, the Admin API and the exporter")
        children = _children(postgres.url, workers, admin_addresses, exporter_addresses)
        for child in children:
            child.launch()
        supervisor = Supervisor([postgres, *children], _say)
        for address in (*admin_addresses, *exporter_addresses):
            while not _serves(address):
                supervisor.tick()
                time.sleep(_TICK_SECONDS)
        click.echo(_screen(directory, postgres.url, workers, admin_addresses[0], exporter_addresses[0]))
        while True:
            supervisor.tick()
            time.sleep(_TICK_SECONDS)
    except (EmbeddedPostgresError, MetadataDbError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        for signal_number in stop_signals():
            signal.signal(signal_number, signal.SIG_IGN)
        _say("stopping")
        ends = time.monotonic() + _STOP_SECONDS
        for child in children:
            child.terminate()
        for child in children:
            child.wait_or_kill(ends)
        # PostgreSQL stops last, so that the workers can record their stop.
        postgres.stop(_STOP_POSTGRES_SECONDS)
        _say("stopped")


def _children(url: str, workers: int, admin_addresses: Addresses, exporter_addresses: Addresses) -> list[Command]:
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
    environment = inherited | {LOG_ENVIRONMENT: log_level(os.environ, default="warn")[0], URL_ENVIRONMENT[0]: url}
    # -P: Python must not import modules from the current directory.
    ampd = [*with_parent(signal.SIGTERM), sys.executable, "-P", "-m", "amp_workers.ampd"]
    commands = [
        ("the Admin API", ["admin", *(f"--web.listen-address={address}" for address in admin_addresses)]),
        ("the exporter", ["exporter", *(f"--web.listen-address={address}" for address in exporter_addresses)]),
        *((node_id, ["worker", "--node-id", node_id]) for node_id in _node_ids(workers)),
    ]
    return [Command(name, [*ampd, *arguments, *log_arguments()], environment) for name, arguments in commands]


def _node_ids(workers: int) -> list[str]:
    return [f"worker-{number:02}" for number in range(1, workers + 1)]


def _await_free(addresses: Mapping[str, Addresses]) -> None:
    """Wait until nothing listens on the addresses, which are given by their options."""
    options = {address: option for option, several in addresses.items() for address in several}
    patience_ends = time.monotonic() + _PORT_PATIENCE_SECONDS
    while refusals := {address: refusal for address in options if (refusal := address.refusal())}:
        if time.monotonic() >= patience_ends:
            others = _free_addresses(options, refusals)
            raise click.ClickException(f"{'; '.join(refusals.values())}. Choose another address: {others}")
        time.sleep(_TICK_SECONDS)


def _free_addresses(options: Mapping[ListenAddress, str], refused: Iterable[ListenAddress]) -> str:
    """Return options to type instead of those that were refused, with the next free port of the same host."""
    taken = set(options)
    typed = []
    for address in refused:
        ports = range(address.port + 1, min(address.port + _PORTS_TRIED, 65_535) + 1)
        candidates = (replace(address, port=port) for port in ports)
        free = next((each for each in candidates if each not in taken and each.refusal() is None), None)
        taken |= {free} if free else set()
        typed.append(f"{options[address]} {free or 'HOST:PORT'}")
    return " ".join(typed)


def _serves(address: ListenAddress) -> bool:
    connection = HTTPConnection(address.host, address.port, timeout=2)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _screen(
    directory: Path, url: str, workers: int, admin_address: ListenAddress, exporter_address: ListenAddress
) -> str:
    ampctl = "ampctl" if shutil.which("ampctl") else shlex.quote(str(Path(sys.executable).with_name("ampctl")))
    if str(admin_address) != ADMIN_ADDRESS:
        ampctl += f" --admin-url {admin_address.url}"
    return f"""
Amp worker management is running. Ctrl-C stops it.

  fleet page   {admin_address.url}/
  workers      {" ".join(_node_ids(workers)) or "none"}
  Admin API    {admin_address.url}/workers
  exporter     {exporter_address.url}/metrics
  metadata DB  {url}
  data         {directory}

Try next, in another shell:

  {ampctl} worker list
  curl {admin_address.url}/workers
  curl {exporter_address.url}/metrics
"""


def _say(message: str) -> None:
    click.echo(f"ampd solo: {message}", err=True)


def _interrupt(*_: object) -> NoReturn:
    raise _Interrupted
