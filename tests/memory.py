"""A place for temporary files in memory, where there is room. On a disk, to create and remove many files takes long."""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev", "shm")


def memory(room: int) -> Path | None:
    """Return the file system in memory, or None where it has not so many bytes free, or its programs cannot run."""
    if not os.access(_MEMORY, os.W_OK) or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return None
    return _MEMORY if shutil.disk_usage(_MEMORY).free > room else None
