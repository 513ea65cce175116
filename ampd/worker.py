"""`ampd worker`."""

import os
import signal
import sys
import threading
from typing import Any

import click

from amp_workers.ampd.command import command as ampd_command
from amp_workers.ampd.logs import add_log_fields
from amp_workers.ampd.options import DurationType, metadata_db_option
from amp_workers.ampd.signals import stop_signals
from amp_workers.ampd.systemd import ServiceManager
from amp_workers.ampd.url_file import ENVIRONMENT as URL_FILE_ENVIRONMENT
from amp_workers.build_info import build_info
from amp_workers.metadata_db import ENVIRONMENT as URL_ENVIRONMENT
from amp_workers.metadata_db import InvalidNodeId, MetadataDbError, MetadataDbUrl, UnfitSchema, check_node_id

FENCED_OUT_EXIT_CODE = 3

NODE_ID_ENVIRONMENT = "AMP_NODE_ID"

_VARIABLE = click.core.ParameterSource.ENVIRONMENT


class _NodeIdType(click.ParamType[str]):
    name = "node id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if ctx is not None and param is not None and ctx.get_parameter_source(str(param.name)) is _VARIABLE:
            value = value.strip()  # often from a file that ends with a newline
        try:
            return check_node_id(value)
        except InvalidNodeId as error:
            self.fail(f"{error}.", param, ctx)


# Options after the program's name belong to the program.
@ampd_command(context_settings={"allow_interspersed_args": False})
@metadata_db_option
@click.option(
    "--node-id",
    type=_NodeIdType(),
    envvar=NODE_ID_ENVIRONMENT,
    show_envvar=True,
    required=True,
    metavar="ID",
    help="The worker's unique name: an ASCII letter, then ASCII letters, digits, '_', '-' and '.'; 255 at most.",
)
@click.option(
    "--stop-timeout",
    type=DurationType(),
    default="8s",
    show_default=True,
    metavar="DURATION",
    # Docker kills a container 10 s after SIGTERM: the stop must be recorded by then.
    help="How long COMMAND has to end after SIGTERM, and the processes that it leaves behind; then they are killed.",
)
@click.option(
    "--watchdog",
    type=DurationType(),
    metavar="DURATION",
    help="COMMAND promises to report progress at least this often, in systemd's protocol: WATCHDOG=1 to NOTIFY_SOCKET. "
    "If it does not, the worker is stuck. Under 5 s, a late heartbeat is enough for that.",
)
@click.option(
    "--on-stuck",
    type=click.Choice(["report", "kill"]),
    help="What to do about a COMMAND that is stuck. report: only record it. kill: end it with SIGABRT, after "
    "--stop-timeout with SIGKILL, and record the failure 'watchdog'.  [default: report]",
)
@click.option(
    "--join-amp-fleet",
    is_flag=True,
    help="Register in a metadata DB that is Amp's own, too. Amp's scheduler assigns jobs to every worker with a fresh "
    "heartbeat, and this worker executes none of them: the fleet's jobs must be pinned to other workers.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def worker(
    metadata_db_url: MetadataDbUrl,
    node_id: str,
    stop_timeout: float,
    watchdog: float | None,
    on_stuck: str | None,
    join_amp_fleet: bool,
    command: tuple[str, ...],
) -> None:
    """Register a worker and write its heartbeat every second, by itself or for as long as COMMAND runs.

    The worker retries while the metadata DB is unavailable. Without COMMAND, SIGTERM, SIGINT (Ctrl-C) and SIGHUP record
    that the worker stopped on purpose.

    COMMAND, an extraction program in any language, starts once the worker has registered, with AMP_NODE_ID in its
    environment and without the metadata DB's URL. The worker forwards its signals to COMMAND. When COMMAND ends, the
    worker ends the processes that COMMAND left behind, records the stop, and exits with the exit code of COMMAND. If
    the worker is killed, COMMAND is killed as well, and the amp-guard process kills all that COMMAND has started.

    COMMAND may report progress to NOTIFY_SOCKET, in systemd's protocol: STATUS=text is recorded beside the heartbeat,
    and WATCHDOG=1 keeps the promise of --watchdog.

    The stop is on purpose if COMMAND exited with 0, or ended after SIGTERM, or within --stop-timeout after SIGINT,
    SIGHUP or SIGQUIT, or later by that very signal. Every other end is recorded as a failure: another exit code, a
    signal from elsewhere, a COMMAND that cannot be run, or one that --on-stuck kill ended.

    \b
    Exit codes:
      0  stopped, and the stop is recorded
      1  another process holds the node id, the metadata DB is Amp's own and --join-amp-fleet is not set, or its schema
         is too old or not Amp's (COMMAND was not started); or the stop could not be recorded
      2  wrong usage, such as a node id that is not valid
      3  another process took the node id over while this one was cut off or frozen (COMMAND was stopped)
    With COMMAND, every other exit code is that of COMMAND, even if the stop could not be recorded:
      N        COMMAND exited with N
      126      COMMAND cannot be run
      127      COMMAND was not found
      128 + N  signal N ended COMMAND, or the worker before COMMAND was started; 134 where COMMAND
               exited with 0 after --on-stuck kill

    \b
    Examples:
      export AMP_METADATA_DB_URL=postgresql://amp:secret@db.example.org/amp
      ampd worker --node-id worker-01
      ampd worker --node-id worker-02 -- python extract.py --chain mainnet
      ampd worker --node-id worker-03 --watchdog 1m --on-stuck kill -- ./extract
    """
    from amp_workers.worker import (
        AmpDatabaseRefused,
        FencedOut,
        Heartbeat,
        NodeIdTaken,
        Program,
        ProgressReports,
    )

    _check_watchdog(watchdog, on_stuck, command)
    add_log_fields(node_id=node_id)
    manager = ServiceManager(os.environ)
    progress = ProgressReports(watchdog)

    def report(error: MetadataDbError | None) -> None:
        of_program = progress.current.text or ""
        if error is None:
            manager.alive("sends heartbeats", of_program=of_program)
        else:
            manager.alive("cannot send heartbeats", str(error), of_program)

    heartbeat = Heartbeat(
        metadata_db_url,
        node_id,
        build_info(os.environ),
        join_amp_fleet=join_amp_fleet,
        progress=progress,
        turned=report,
        stopping=manager.stopping,
    )
    try:
        if command:
            environment = _program_environment(node_id)
            program = Program(command, environment, stop_timeout, progress, ends_stuck=on_stuck == "kill")
            sys.exit(program.run(heartbeat))
        stop = _stop_event()
        heartbeat.start(ended=stop.set)
        stop.wait()
        sys.exit(0 if heartbeat.finish() else 1)
    except NodeIdTaken as error:
        raise click.ClickException(f"{error}. Stop that one first, or choose another node id.") from error
    except (AmpDatabaseRefused, UnfitSchema) as error:
        raise click.ClickException(f"{error}.") from error
    except FencedOut as error:
        click.echo(f"Error: {error}; this one stops.", err=True)
        sys.exit(FENCED_OUT_EXIT_CODE)


def _check_watchdog(watchdog: float | None, on_stuck: str | None, command: tuple[str, ...]) -> None:
    """Raise click.UsageError where the options of the watchdog contradict each other."""
    from amp_workers.worker import LONGEST_WATCHDOG_SECONDS

    if watchdog is None:
        if on_stuck is not None:
            raise click.UsageError("--on-stuck needs --watchdog.")
        return
    if not command:
        raise click.UsageError("--watchdog needs a COMMAND, which reports progress.")
    if not 0 < watchdog <= LONGEST_WATCHDOG_SECONDS:
        raise click.UsageError(
            f"--watchdog: {watchdog:,.10g} s is not between 0 and {LONGEST_WATCHDOG_SECONDS:,.0f} s."
        )


def _stop_event() -> threading.Event:
    """Return an event that SIGTERM, SIGINT and SIGHUP set, except those inherited as ignored (`nohup`).

    A thread waits for the signals. A signal handler could interrupt the main thread while it holds the lock of the
    event, and would wait for that lock for ever.
    """
    stop = threading.Event()
    signals = stop_signals()
    # A thread inherits the mask of the thread that starts it, and there is no other thread yet.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        signal.sigwait(signals)
        stop.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stop


def _program_environment(node_id: str) -> dict[str, str]:
    """Return the environment without the metadata DB's URL, so that the program cannot leak the password."""
    hidden = {*URL_ENVIRONMENT, URL_FILE_ENVIRONMENT}
    inherited = {name: value for name, value in os.environ.items() if name not in hidden}
    return inherited | {NODE_ID_ENVIRONMENT: node_id}
