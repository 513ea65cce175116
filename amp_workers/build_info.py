"""What this software was built from: the `info` that a worker registers with, and the version that each command shows.

Four keys, each a string, each absent where it is not known: `version` as `git describe` writes it
(`v0.1.0-15-g8b065bde`, with `-dirty` where the tree has changes), `commit_sha` (40 digits), `commit_timestamp`
and `build_date` (UTC, `2025-01-15T14:30:00Z`).

Found in this order: the environment (`AMP_BUILD_VERSION`, `AMP_BUILD_COMMIT_SHA`, `AMP_BUILD_COMMIT_TIMESTAMP`,
`AMP_BUILD_DATE`, each on its own); the stamp that a wheel carries; the git checkout that the code runs from.

This module imports the standard library alone: the build hook loads it before anything else is installed. It belongs to
no room, because every command shows its version and rooms do not import each other.
"""

import json
import pkgutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

KEYS = ("version", "commit_sha", "commit_timestamp", "build_date")

ENVIRONMENT = {
    "version": "AMP_BUILD_VERSION",
    "commit_sha": "AMP_BUILD_COMMIT_SHA",
    "commit_timestamp": "AMP_BUILD_COMMIT_TIMESTAMP",
    "build_date": "AMP_BUILD_DATE",
}

UNKNOWN = "unknown"

_PACKAGE = Path(__file__).parent
_GIT_TIMEOUT_SECONDS = 5


def build_info(environ: Mapping[str, str], package: Path = _PACKAGE) -> dict[str, str]:
    """Return what is known of the build; a key that is not known is absent."""
    info = (_stamp() or _checkout(package.resolve().parent)) | from_environment(environ)
    return {key: info[key] for key in KEYS if key in info}


def version(environ: Mapping[str, str], package: Path = _PACKAGE) -> str:
    """Return the version that commands show, `unknown` where there is neither a stamp nor git."""
    return build_info(environ, package).get("version", UNKNOWN)


def of_build(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a build of the checkout at root puts into the result. SOURCE_DATE_EPOCH is its date, else now."""
    epoch = environ.get("SOURCE_DATE_EPOCH")
    date = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(int(epoch), UTC)
    return {"build_date": _iso(date)} | from_git(root) | from_environment(environ)


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the keys whose variables are set and not empty."""
    return {key: environ[name].strip() for key, name in ENVIRONMENT.items() if environ.get(name, "").strip()}


def from_git(root: Path) -> dict[str, str]:
    """Return `version`, `commit_sha` and `commit_timestamp` of the checkout at root, or `{}` where git has none."""
    commit = _git(root, "log", "-1", "--format=%H %ct")
    if commit is None:
        return {}
    sha, _, seconds = commit.partition(" ")
    return {
        "version": _describe(root, sha),
        "commit_sha": sha,
        "commit_timestamp": _iso(datetime.fromtimestamp(int(seconds), UTC)),
    }


def _stamp() -> dict[str, str]:
    try:
        # It also reads from a zip archive, as ampctl.pyz is.
        data = pkgutil.get_data("amp_workers", "build_stamp.json")
    except OSError:
        return {}
    stamp: dict[str, str] = json.loads(data or b"{}")
    return stamp


def _checkout(root: Path) -> dict[str, str]:
    # Only our own checkout counts: an installation may be inside another git tree.
    if not (root / ".git").exists():
        return {}
    info = from_git(root)
    if info:
        # Nothing was built, and the start time would make every restart look like another build. The newest source
        # file is the same for all workers of a machine.
        newest = max(source.stat().st_mtime for source in root.glob("*/*.py"))
        info["build_date"] = _iso(datetime.fromtimestamp(newest, UTC))
    return info


def _describe(root: Path, sha: str) -> str:
    described = _git(root, "describe", "--tags", "--match=v[0-9]*", "--abbrev=8", "--dirty")
    if described is not None:
        return described
    # No tag yet: count from the beginning, so that the form stays the same.
    count = _git(root, "rev-list", "--count", "HEAD")
    dirty = "-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    return f"v0.0.0-{count}-g{sha[:8]}{dirty}"


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints, or None where there is no git, no repository or no commit."""
    # git refuses a checkout that belongs to another user (a root shell, a bind mount), because its hooks may be
    # hostile. The code of this one runs already.
    # Without optional locks: an index.lock would block a person who works in the checkout.
    command = ["git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_TIMEOUT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
