"""PostgreSQL servers of their own, for tests that step a clock or stop replication: the programs are those of the
embedded PostgreSQL."""

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from amp_workers.metadata_db.embedded import account, find_place
from tests.processes import ROOT, Process, Processes, tool


class Cluster:
    """One server on a Unix socket, in a directory that PostgreSQL's account can enter."""

    def __init__(self, directory: Path, processes: Processes, environment: Mapping[str, str] | None = None) -> None:
        self._account = account()
        self._directory, self._processes, self._environment = directory, processes, environment
        self._programs = find_place(directory / "embedded", self._account).programs
        directory.mkdir(exist_ok=True)
        self._own(directory)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self._directory}"

    def initialise(self) -> None:
        """Make an empty cluster."""
        options = ("--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync")
        self._run("initdb", f"--pgdata={self._data}", *options)

    def follow(self, primary: "Cluster") -> None:
        """Make a streaming standby of a running primary."""
        source = ("--dbname", f"host={primary._directory} user=postgres", "--checkpoint=fast", "--no-sync")
        self._run("pg_basebackup", f"--pgdata={self._data}", "--write-recovery-conf", *source)

    def start(self, *settings: str) -> Process:
        """Start the server with settings, such as `fsync=off`, and wait until it accepts connections."""
        own = ("listen_addresses=", f"unix_socket_directories={self._directory}", "fsync=off", *settings)
        options = [each for setting in own for each in ("-c", setting)]
        server = self._start("postgres", "-D", str(self._data), *options, environment=self._environment)
        server.says("ready to accept")  # a standby accepts "read-only connections"
        self._server = server
        return server

    def stop(self) -> None:
        """Shut the server down, without waiting for its sessions to end."""
        self._server.signal(signal.SIGINT)
        assert self._server.wait() == 0

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _run(self, program: str, *arguments: str) -> None:
        made = self._start(program, *arguments)
        assert made.wait(60) == 0, made.output

    def _start(self, program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        # The environment is for the server alone: libfaketime's semaphore belongs to the account that makes it.
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        ids = (f"--reuid={self._account.uid}", f"--regid={self._account.gid}", "--clear-groups")
        identity: Sequence[str] = () if self._account.is_ours else ("setpriv", *ids)
        command = (*identity, "env", *variables, str(self._programs / program), *arguments)
        return self._processes.start(*command, cwd=self._directory)

    def _own(self, path: Path) -> None:
        os.chown(path, self._account.uid, self._account.gid)


class Clock:
    """The clock of a process, by Debian's libfaketime."""

    def __init__(self, directory: Path) -> None:
        tool("faketime")
        places = [ROOT / ".tools/root/usr/lib", Path("/usr/lib")]
        library = next(found for place in places for found in place.glob("*/faketime/libfaketimeMT.so.1"))
        # A copy, which another account can read.
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
