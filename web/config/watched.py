"""Settings from files, read again when a file changes."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")

ReadFile = Callable[[Path], bytes]

_log = logging.getLogger("amp_workers.web")


class Watched(Generic[Value]):
    """A value that is read from files. The last good one stays until there is another good one."""

    def __init__(
        self,
        read: Callable[[ReadFile], Value],
        error: type[Exception],
        accept: Callable[[Value, Value], None] = lambda _before, _now: None,
    ) -> None:
        """Read for the first time.

        read: reads all files with the function that it gets, and raises `error` where one cannot be used. accept:
        raises `error` where one value must not follow another.
        """
        self._read, self._error, self._accept = read, error, accept
        self.value, self._signature = self._read_signed()
        self.wrong: str | None = None
        """Why the files as they are now cannot be used."""

    def reload(self) -> bool:
        """Read again if a file changed, and return whether that succeeded. A failure is logged once."""
        # What could not be used is tried again each time: the reason may be a file that is not watched yet.
        if self.wrong is None and all(_stat(path) == before for path, before in self._signature.items()):
            return False
        try:
            value, signature = self._read_signed()
            self._accept(self.value, value)
        except self._error as error:
            self._keep(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - it would end the thread that watches
            # Where the error was raised, and not its message, which may be a part of a file.
            at = traceback.extract_tb(error.__traceback__)[-1]
            names = ", ".join(sorted(map(str, self._signature)))
            self._keep(f"{names}: unexpected {type(error).__name__} in {Path(at.filename).name}, line {at.lineno}")
            return False
        if value != self.value:
            _log.info("read again: %s", ", ".join(sorted(map(str, signature))))
        self.value, self._signature, self.wrong = value, signature, None
        return True

    def _keep(self, wrong: str) -> None:
        if wrong != self.wrong:
            _log.error("%s; the settings that were read before stay in use", wrong)
        self.wrong = wrong

    def _read_signed(self) -> tuple[Value, dict[Path, object]]:
        signature: dict[Path, object] = {}

        def read_file(path: Path) -> bytes:
            signature[path] = _stat(path)  # before it is read: a change in the meantime will be seen
            return path.read_bytes()

        return self._read(read_file), signature


def _stat(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
