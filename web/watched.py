"""Settings out of files, read again when one of them changes."""

import logging
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")

_Signature = dict[Path, tuple[int, int, int] | None]

_log = logging.getLogger("amp_workers.web")


class Watched(Generic[Value]):
    """What a function reads out of files. It keeps the last good value for as long as a later one is not good."""

    def __init__(
        self,
        read: Callable[[], Value],
        files: Callable[[Value], Iterable[Path]],
        error: type[Exception],
        accept: Callable[[Value, Value], None] = lambda _before, _now: None,
    ) -> None:
        """Read for the first time.

        read: raises `error` where a file cannot be used; its message names the file. files: those that a value is from.
        accept: raises `error` where one value must not follow another.
        """
        self._read, self._files, self._error, self._accept = read, files, error, accept
        self._state = self._settled()
        self._wrong: str | None = None

    @property
    def value(self) -> Value:
        return self._state[0]

    def look(self, *, tell: bool) -> bool:
        """Read again if a file changed, and return whether there is another value.

        tell: log what happened, and what is wrong once.
        """
        # What could not be used is tried again each time: it may be for want of a file that nobody watches yet.
        if self._wrong is None and _signature(self._state[1]) == self._state[1]:
            return False
        try:
            state = self._settled()
            self._accept(self.value, state[0])
        except self._error as error:
            self._keep(str(error), tell=tell)
            return False
        except Exception as error:  # noqa: BLE001 - it would end the thread that watches, and fail every request
            # Where it came from, and not what it says, which may be a part of the file.
            at = traceback.extract_tb(error.__traceback__)[-1]
            names = ", ".join(sorted(map(str, self._state[1])))
            where = f"{Path(at.filename).name}, line {at.lineno}"
            self._keep(f"{names}: a {type(error).__name__} that nobody foresaw, in {where}", tell=tell)
            return False
        changed = state[0] != self._state[0]
        self._state, self._wrong = state, None
        if tell and changed:
            _log.info("read again: %s", ", ".join(sorted(str(path) for path in state[1])))
        return changed

    def _keep(self, wrong: str, *, tell: bool) -> None:
        """Have the old value stay, and say once why."""
        if tell and wrong != self._wrong:
            _log.error("%s; what was read before stays", wrong)
        self._wrong = wrong

    def _settled(self) -> tuple[Value, _Signature]:
        """Read, and sign the files as they were before: what changes meanwhile will be seen."""
        value = self._read()
        while True:
            signature = _signature(self._files(value))
            again = self._read()
            if set(self._files(again)) == set(signature):
                return again, signature
            value = again


def _signature(files: Iterable[Path]) -> _Signature:
    return {path: _stat(path) for path in files}


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):  # a name that no file can have
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
