"""A file that is in memory alone, for libraries that take nothing but a path."""

import os
from typing import Self


class MemoryFile:
    """Some bytes with a path, for this process and those forked from it, until the object is gone."""

    def __init__(self, content: bytes) -> None:
        self._file = os.fdopen(os.memfd_create("web"), "wb")
        self._file.write(content)
        self._file.flush()

    @property
    def descriptor(self) -> int:
        return self._file.fileno()

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.descriptor}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
