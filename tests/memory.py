"""Directories in memory, where there is room. On a disk, the kernel takes long to create and remove many files."""

import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev", "shm")


def new_directory(prefix: str, room: int) -> Path:
    """Create a directory with a short name, for the current user alone. room: bytes that must be free in memory."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if _has_room(room) else None))


def _has_room(room: int) -> bool:
    if not os.access(_MEMORY, os.W_OK):
        return False
    # Programs of a container must be executable.
    return not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(_MEMORY).free > room
