"""The socket on which a program reports its progress, in the protocol of systemd's `sd_notify`.

sd_notify(3) and systemd's src/core/manager.c: a datagram is at most 4,096 bytes of lines `NAME=value`. A line ends with
a newline or a carriage return, and the datagram with one NUL byte or none. A sender of `BARRIER=1` waits until the
descriptor that came with it is closed.
"""

import errno
import logging
import os
import secrets
import select
import shutil
import socket
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from amp_workers.worker.progress import ProgressReports, StuckWatch

_PREFIX = "amp-notify-"
_NAME = "socket"
_LONGEST_PATH_BYTES = 107

_LONGEST_DATAGRAM_BYTES = 4096
_CREDENTIALS = struct.Struct("3i")
_MOST_DESCRIPTORS = 253
"""SCM_MAX_FD of the kernel."""

_ANCILLARY_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)

_BATCH, _PAUSE_SECONDS = 100, 0.1
"""How many datagrams are read before a pause. A sender that floods the socket blocks, or loses datagrams."""

_LOOK_SECONDS = 0.2

_log = logging.getLogger("amp_workers.worker")


class NotifySocket:
    """Receives a program's reports, in a thread, once `listen` is called.

    Made before the program's guard is forked, so that its address is in the program's environment.
    """

    def __init__(self, reports: ProgressReports, environ: Mapping[str, str]) -> None:
        self._reports = reports
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._directory: Path | None = None
        self.address = self._bind(environ)
        """The value of NOTIFY_SOCKET."""

        self._thread: threading.Thread | None = None
        self._ignored: dict[str, int] = {}

    def listen(self, on_stuck: Callable[[], None] | None) -> None:
        """Start to receive reports. on_stuck: called once, from the thread, when the promise is broken."""
        self._thread = threading.Thread(target=self._run, args=(on_stuck,), name="notifications", daemon=True)
        self._thread.start()

    def forget(self) -> None:
        """Close the socket in a process that was forked; it stays open in the one that listens."""
        self._socket.close()

    def close(self) -> None:
        """Take what was sent before, and remove the socket."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join()
        self._socket.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        for reason, number in self._ignored.items():
            if number > 1:
                _log.warning("ignored %d messages of the program: %s", number, reason, extra={"reason": reason})

    def _bind(self, environ: Mapping[str, str]) -> str:
        for parent in _parents(environ):
            with suppress(OSError):
                _remove_leftovers(parent)
                self._directory = _bind_below(parent, self._socket)
                return str(self._directory / _NAME)
        name = f"amp-notify/{secrets.token_hex(16)}"
        self._socket.bind(f"\0{name}")
        return f"@{name}"

    def _run(self, on_stuck: Callable[[], None] | None) -> None:
        watch = StuckWatch(self._reports)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while True:
            events = poll.poll(None if on_stuck is None else _LOOK_SECONDS * 1000)
            # Reading shows no end: on a datagram socket that was shut down, a non-blocking read fails with EAGAIN.
            is_shut_down = any(event & select.POLLHUP for _, event in events)
            number = 0
            while number < _BATCH and self._receive():
                number += 1
            if is_shut_down and number < _BATCH:
                return
            if on_stuck is not None and watch.look(time.monotonic()):
                on_stuck()
                on_stuck = None
            if number == _BATCH:
                time.sleep(_PAUSE_SECONDS)

    def _receive(self) -> bool:
        """Receive one datagram; return False where there is none."""
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        try:
            data, ancillary, returned, _ = self._socket.recvmsg(_LONGEST_DATAGRAM_BYTES, _ANCILLARY_BYTES, flags)
        except BlockingIOError:
            return False
        user: int | None = None
        for level, kind, content in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_RIGHTS:
                _close_all(content)
            elif kind == socket.SCM_CREDENTIALS:
                _, user, _ = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])
        if user is None and not data:
            return False  # the kernel gives each datagram credentials
        message = data.removesuffix(b"\0")
        if user != os.geteuid():
            self._ignore(f"user {user} sent them, and the worker is user {os.geteuid()}")
        elif returned & socket.MSG_TRUNC:
            self._ignore(f"longer than {_LONGEST_DATAGRAM_BYTES} bytes")
        elif b"\0" in message:
            self._ignore("with a NUL byte before the end")
        else:
            self._take(message)
        return True

    def _take(self, message: bytes) -> None:
        for line in message.decode("utf-8", "replace").replace("\r", "\n").split("\n"):
            match line.partition("="):
                case ("WATCHDOG", _, "1"):
                    self._reports.advance()
                case ("WATCHDOG", _, "trigger"):
                    self._reports.trigger()
                case ("READY", _, "1"):
                    self._reports.start()
                case ("STATUS", "=", text):
                    self._reports.describe(text)
                case ("STOPPING", _, "1"):
                    self._reports.end_promise()

    def _ignore(self, reason: str) -> None:
        if reason not in self._ignored:
            _log.warning("ignored a message of the program: %s", reason, extra={"reason": reason})
        self._ignored[reason] = self._ignored.get(reason, 0) + 1


def _parents(environ: Mapping[str, str]) -> list[Path]:
    """Return where the socket may be: systemd's RUNTIME_DIRECTORY, which can be several, and TMPDIR."""
    runtime = [each for each in environ.get("RUNTIME_DIRECTORY", "").split(":") if each]
    return [Path(each).absolute() for each in (*runtime, environ.get("TMPDIR") or "/tmp")]  # noqa: S108 - the directory made there has a random name, and only its owner can enter it


def _bind_below(parent: Path, bound: socket.socket) -> Path:
    """Bind a socket in a directory of its own, which has its name only when that is done; return the directory.

    Raises:
        OSError: no directory can be made there, or the path is too long for the address of a socket.
    """
    if len(os.fsencode(parent / f"{_PREFIX}12345678" / _NAME)) > _LONGEST_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    made = Path(tempfile.mkdtemp(prefix=".amp-new-", dir=parent))
    directory = parent / made.name.replace(".amp-new-", _PREFIX)
    try:
        bound.bind(str(made / _NAME))
        made.rename(directory)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return directory


def _remove_leftovers(parent: Path) -> None:
    """Remove the sockets of workers that were killed: no process receives there."""
    with os.scandir(parent) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(_PREFIX)]
    for directory in found:
        with suppress(OSError):
            status = directory.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and _is_dead(directory / _NAME):
                shutil.rmtree(directory, ignore_errors=True)


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        try:
            peer.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
    return False


def _close_all(descriptors: bytes) -> None:
    whole = len(descriptors) // 4
    for descriptor in struct.unpack(f"{whole}i", descriptors[: whole * 4]):
        with suppress(OSError):
            os.close(descriptor)
