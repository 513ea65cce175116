"""The data directory of `ampd solo`, locked for one process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amp_workers.errors import AmpError


class DataDirectoryError(AmpError):
    """The directory cannot be used; the message says why."""


@contextmanager
def data_directory(path: Path) -> Iterator[Path]:
    """Lock a data directory, which is created if it does not exist.

    A new directory is removed again if the block fails before anything is written to it.

    Raises:
        DataDirectoryError: another process holds it, or it cannot be written.
    """
    is_new = not path.exists()
    lock_path = path / "lock"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if is_new:
            path.chmod(0o755)
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataDirectoryError(
            f"cannot write the data directory {path}: {error.strerror}; choose another with --data-dir"
        ) from error
    try:
        _lock(descriptor, path)
        yield path
        is_new = False
    finally:
        if is_new:
            lock_path.unlink()
            with suppress(OSError):  # a directory that is not empty is kept
                path.rmdir()
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    """Take a lock that the kernel releases when this process ends, however it ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        raise DataDirectoryError(
            f"another ampd solo (pid {holder}) uses the data directory {path}; "
            "stop it, or choose another with --data-dir"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
