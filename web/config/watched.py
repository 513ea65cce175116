"""Settings from files, read again when a file changes."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from amp_workers.web.errors import ConfigError

Value = TypeVar("Value")

ReadFile = Callable[[Path], bytes]

_log = logging.getLogger("amp_workers.web")


class Watched(Generic[Value]):
    """A value that is read from files. It stays until another one can be read.

    error: why the files as they are now cannot be used; None where they can.
    """

    def __init__(self, read: Callable[[ReadFile], Value]) -> None:
        """Read for the first time. read: reads all files with the function that it gets."""
        self._read = read
        self.value, self._signature = self._read_signed()
        self.error: str | None = None

    def reload(self) -> bool:
        """Read again if a file changed, and return whether that succeeded. A failure is logged once."""
        # After a failure the files are read each time: the reason may be a file that is not watched yet.
        if self.error is None and all(_stat(path) == before for path, before in self._signature.items()):
            return False
        try:
            value, signature = self._read_signed()
        except Exception as error:  # noqa: BLE001 - it would end the thread that watches
            self._keep(str(error) if isinstance(error, ConfigError) else f"{self._names}: {_place(error)}")
            return False
        # The end of a failure has the level of its start: a log of warnings shows both.
        level = logging.INFO if self.error is None else logging.WARNING
        has_changed, self.value = value != self.value, value
        self._signature, self.error = signature, None
        if has_changed or level == logging.WARNING:
            _log.log(level, "configuration reloaded", extra={"files": self._names})
        return True

    @property
    def _names(self) -> str:
        return ", ".join(sorted(map(str, self._signature)))

    def _keep(self, error: str) -> None:
        if error != self.error:
            _log.warning("configuration not reloaded, the previous one stays in use", extra={"reason": error})
        self.error = error

    def _read_signed(self) -> tuple[Value, dict[Path, object]]:
        signature: dict[Path, object] = {}

        def read_file(path: Path) -> bytes:
            signature[path] = _stat(path)  # before the file is read: a later change will be seen
            return path.read_bytes()

        return self._read(read_file), signature


def _place(error: Exception) -> str:
    """Return where an unexpected error was raised, and not its message, which may be a part of a file."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} in {Path(at.filename).name}, line {at.lineno}"


def _stat(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
