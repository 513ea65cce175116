"""PostgreSQL servers of a test's own, which it can stop, kill and reconfigure. The programs are those of the embedded
PostgreSQL, or of another version: `make test POSTGRES=14`."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from amp_workers.metadata_db import MetadataDbUrl
from amp_workers.metadata_db.embedded import Account, EmbeddedPostgres, Place, account, find_place
from amp_workers.metadata_db.migrate import upgrade
from tests.processes import ROOT, Process, Processes, eventually, tool

TESTED_PROGRAMS = os.environ.get("TEST_POSTGRES")
"""The directory of another PostgreSQL's programs, which the tests run instead of the embedded one."""


def find_tested_place(directory: Path, owner: Account) -> Place:
    """Return the directories of the PostgreSQL programs that the tests run."""
    place = find_place(directory, owner)
    return replace(place, programs=Path(TESTED_PROGRAMS)) if TESTED_PROGRAMS else place


@contextmanager
def own_postgres(directory: Path) -> Iterator[EmbeddedPostgres]:
    """Run a migrated PostgreSQL with its data in a new directory, which is removed afterwards."""
    owner = account()
    server = EmbeddedPostgres(find_tested_place(directory, owner), owner)
    server.start(lambda _: None)
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            # The data does not have to survive a crash of the machine.
            for setting in ("fsync", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
            connection.execute("SELECT pg_reload_conf()")
        upgrade(MetadataDbUrl.parse(server.url))
        yield server
    finally:
        server.stop(30)
        remove(directory)


def remove(directory: Path) -> None:
    """Remove a directory. A process that was just killed may still write there until the kernel schedules it."""

    def is_removed() -> bool:
        shutil.rmtree(directory, ignore_errors=True)
        return not directory.exists()

    eventually(is_removed)


class Cluster:
    """One server on a Unix socket, in a directory that PostgreSQL's account can enter."""

    def __init__(self, directory: Path, processes: Processes, environment: Mapping[str, str] | None = None) -> None:
        self._account = account()
        self.directory, self._processes, self._environment = directory, processes, environment
        self._programs = find_tested_place(directory / "embedded", self._account).programs
        directory.mkdir(exist_ok=True)
        self._own(directory)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.directory}"

    def initialise(self) -> None:
        """Create an empty cluster."""
        options = ("--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync")
        self._run("initdb", f"--pgdata={self._data}", *options)

    def follow(self, primary: "Cluster") -> None:
        """Create a streaming standby of a running primary."""
        source = ("--dbname", f"host={primary.directory} user=postgres", "--checkpoint=fast", "--no-sync")
        self._run("pg_basebackup", f"--pgdata={self._data}", "--write-recovery-conf", *source)

    def start(self, *settings: str) -> Process:
        """Start the server with settings, such as `fsync=off`, and wait until it accepts connections."""
        own = ("listen_addresses=", f"unix_socket_directories={self.directory}", "fsync=off", *settings)
        options = [each for setting in own for each in ("-c", setting)]
        server = self._start("postgres", "-D", str(self._data), *options, environment=self._environment)
        server.says("ready to accept")  # a standby logs "ready to accept read-only connections"
        self._server = server
        return server

    def stop(self) -> None:
        """Shut the server down without waiting for its sessions."""
        self._server.signal(signal.SIGINT)
        assert self._server.wait() == 0

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _run(self, program: str, *arguments: str) -> None:
        made = self._start(program, *arguments)
        assert made.wait(60) == 0, made.output

    def _start(self, program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        # Only the server gets the environment: libfaketime's semaphore belongs to the account that creates it.
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        ids = (f"--reuid={self._account.uid}", f"--regid={self._account.gid}", "--clear-groups")
        identity: Sequence[str] = () if self._account.is_ours else ("setpriv", *ids)
        command = (*identity, "env", *variables, str(self._programs / program), *arguments)
        return self._processes.start(*command, cwd=self.directory)

    def _own(self, path: Path) -> None:
        os.chown(path, self._account.uid, self._account.gid)


class Clock:
    """The clock of a process, by Debian's libfaketime."""

    def __init__(self, directory: Path) -> None:
        tool("faketime")
        places = [ROOT / ".tools/root/usr/lib", Path("/usr/lib")]
        library = next(found for place in places for found in place.glob("*/faketime/libfaketimeMT.so.1"))
        # A copy that another account can read.
        shutil.copy(library, directory)
        self._file = directory / "clock"
        self.step("+0")
        self.environment = {
            "LD_PRELOAD": str(directory / library.name),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, offset: str) -> None:
        """Set the clock ahead of the machine's, as `-40` seconds or `+1d`."""
        written = self._file.with_suffix(".new")
        written.write_text(offset)
        written.chmod(0o644)
        written.replace(self._file)
