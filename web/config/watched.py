"""Settings from files, read again when a file changes."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

from amp_workers.errors import AmpError

ReadFile = Callable[[Path], bytes]

_log = logging.getLogger("amp_workers.web")


class ConfigError(AmpError):
    """A file, or a token, that configures a server cannot be used. The message names it and never shows a secret."""


class Watched:
    """Files that settings are read from. The settings stay as they are until the files can be read again.

    error: why the files as they are now cannot be used; None where they can.
    """

    def __init__(self, read: Callable[[ReadFile], None]) -> None:
        """Read for the first time. read: reads all files with the function that it gets, and then sets the settings."""
        self._read = read
        self._signature = self._read_signed()
        self.error: str | None = None

    def reload(self) -> bool:
        """Read again if a file changed, and return whether that succeeded. A failure is logged once."""
        # After a failure the files are read each time: the reason may be a file that is not watched yet.
        if self.error is None and all(_stat(path) == before for path, before in self._signature.items()):
            return False
        try:
            self._signature = self._read_signed()
        except Exception as error:  # noqa: BLE001 - it would end the thread that watches
            reason = str(error) if isinstance(error, ConfigError) else f"{self._names}: {_place(error)}"
            if reason != self.error:
                _log.warning("configuration not reloaded, the previous one stays in use", extra={"reason": reason})
            self.error = reason
            return False
        # The end of a failure has the level of its start: a log of warnings shows both.
        level = logging.INFO if self.error is None else logging.WARNING
        _log.log(level, "configuration reloaded", extra={"files": self._names})
        self.error = None
        return True

    @property
    def _names(self) -> str:
        return ", ".join(sorted(map(str, self._signature)))

    def _read_signed(self) -> dict[Path, object]:
        signature: dict[Path, object] = {}

        def read_file(path: Path) -> bytes:
            signature[path] = _stat(path)  # before the file is read: a later change will be seen
            return path.read_bytes()

        self._read(read_file)
        return signature


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
