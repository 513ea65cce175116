"""Contexts: named Admin APIs with their credentials, in `~/.config/ampctl/config.toml`.

[contexts.prod]
admin_url = "https://amp.example.org:1610"
auth_token_file = "prod.token"
"""

import os
import stat
from pathlib import Path
from typing import Any

import click

from amp_workers.ctl.suggestions import did_you_mean
from amp_workers.errors import AmpError

KEYS = ("admin_url", "auth_token_file", "ca_file", "client_cert", "client_key")

_FILES = KEYS[1:]


class InvalidContext(AmpError, click.UsageError):
    """The configuration, a context in it, or one of its files cannot be used. The message names the file."""


def directory() -> Path:
    """Return where the configuration is: https://specifications.freedesktop.org/basedir-spec."""
    home = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    # A relative path in the variable has to be ignored.
    return (home if home.is_absolute() else Path.home() / ".config") / "ampctl"


def all_contexts() -> dict[str, dict[str, str]]:
    """Return the settings of each context by its name; none where there is no configuration.

    Raises:
        InvalidContext: the configuration cannot be read, or has an unknown key.
    """
    path = directory() / "config.toml"
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidContext(f"cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidContext(f"{path} is not UTF-8 text.") from error
    import tomllib

    try:
        document = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidContext(f"{path} is not TOML: {error}.") from error
    found = document.get("contexts", {})
    unknown = next((each for each in document if each != "contexts"), None)
    if unknown is not None or not isinstance(found, dict):
        raise InvalidContext(f"{path}: {unknown or 'contexts'!r} is unexpected; a context is a table [contexts.NAME].")
    return {name: _checked(path, name, settings) for name, settings in found.items()}


def context_named(name: str) -> dict[str, str]:
    """Return the settings of a context.

    Raises:
        InvalidContext: no context has this name.
    """
    found = all_contexts()
    if name not in found:
        known = f"known are {', '.join(sorted(found))}" if found else "none is defined"
        path = directory() / "config.toml"
        raise InvalidContext(f"no context {name!r} in {path}: {known}.{did_you_mean(name, found)}")
    return found[name]


def current_context() -> str | None:
    """Return the context that `ampctl context use` has set; None without one."""
    try:
        return (directory() / "current-context").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def use_context(name: str) -> None:
    """Make a context the current one.

    Raises:
        InvalidContext: no context has this name, or the choice cannot be written.
    """
    context_named(name)
    path = directory() / "current-context"
    try:
        path.write_text(f"{name}\n")
    except OSError as error:
        raise InvalidContext(f"cannot write {path}: {error.strerror}.") from error


def token_in(path: str) -> str:
    """Return the token in a file that other users cannot read.

    Raises:
        InvalidContext: other users can read the file, or it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(65_536)
    except OSError as error:
        raise InvalidContext(f"cannot read auth_token_file {path}: {error.strerror}.") from error
    # As ssh does: the owner's file must exclude the group; another owner's file can be meant for the group.
    others = 0o077 if status.st_uid == os.geteuid() else 0o007
    if stat.S_ISREG(status.st_mode) and status.st_mode & others:
        mode = stat.S_IMODE(status.st_mode)
        raise InvalidContext(
            f"auth_token_file {path} has the permissions {mode:04o}, with which others can read the token: "
            "run `chmod 600` on it."
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidContext(f"auth_token_file {path} is not UTF-8 text.") from error


def _checked(path: Path, name: str, settings: Any) -> dict[str, str]:
    where = f"{path}, [contexts.{name}]"
    if not isinstance(settings, dict):
        raise InvalidContext(f"{where} is not a table.")
    for key, value in settings.items():
        if key in {"auth_token", "token"}:
            raise InvalidContext(f"{where}: a token is not read from here; name its file with auth_token_file.")
        if key not in KEYS:
            raise InvalidContext(f"{where}: unknown key {key!r}; known are {', '.join(KEYS)}.{did_you_mean(key, KEYS)}")
        if not isinstance(value, str):
            raise InvalidContext(f"{where}: {key} is not a string.")
    if "admin_url" not in settings:
        raise InvalidContext(f"{where} has no admin_url.")
    # Relative to the configuration, wherever ampctl is run.
    files = {key: str(path.parent / Path(settings[key]).expanduser()) for key in _FILES if key in settings}
    return {**settings, **files}
