"""The metadata DB's URL: validation, display without the password, and reloading from a file."""

import codecs
import logging
import re
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from amp_workers.errors import AmpError

ENVIRONMENT = ("AMP_METADATA_DB_URL", "AMP_CONFIG_METADATA_DB__URL")
"""The variables of the URL, in order of precedence. Amp's own `ampd` reads the second one."""

_EXPECTED = "expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
_UNREADABLE = f"libpq cannot read it (are @ : / ? # % in the password percent-encoded?); {_EXPECTED}"
_PARAMETER_NAME = re.compile(r"[A-Za-z_-]{1,40}")

_BYTE_ORDER_MARK = "\ufeff"
_UTF16_BYTE_ORDER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_log = logging.getLogger("amp_workers.metadata_db")


class InvalidMetadataDbUrl(AmpError, ValueError):
    """The URL cannot be used. The message says why, without any part of the URL, which may contain a password."""


@dataclass(frozen=True)
class _Checked:
    """A URL that libpq can read."""

    conninfo: str = field(repr=False)
    shown: str


class MetadataDbUrl:
    """A URL that libpq can parse. Its `str` and `repr` contain no password."""

    def __init__(self, checked: _Checked, file: Path | None = None) -> None:
        """file: from which the URL is read again at each use."""
        self._checked = checked
        self._file = file
        self._problem: str | None = None
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, url: str) -> Self:
        """Check a URL. Surrounding white space is ignored.

        Raises:
            InvalidMetadataDbUrl: it is not a `postgresql://` URL, or libpq cannot read it.
        """
        return cls(_check(url))

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a URL from a file, and again at each use of `conninfo`: the password may change while a process runs.

        A file that is not regular, such as a pipe, is read once.

        Raises:
            InvalidMetadataDbUrl: the content of the file cannot be used.
            OSError: the file cannot be read.
        """
        return cls(_check(_text_of(file)), file)

    @property
    def conninfo(self) -> str:
        """The URL with the password, for libpq only.

        If the file cannot be read or has no usable URL, the previous URL stays in use: a secret that is being replaced
        may be missing or half written. The problem is logged once.
        """
        with self._lock:
            if self._file is not None:
                self._read_again(self._file)
            return self._checked.conninfo

    def __str__(self) -> str:
        return self._checked.shown

    def __repr__(self) -> str:
        return f"MetadataDbUrl({self._checked.shown!r})"

    def _read_again(self, file: Path) -> None:
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                return
            checked = _check(_text_of(file))
        except OSError as error:
            self._keep(file, str(error.strerror))
        except InvalidMetadataDbUrl as error:
            self._keep(file, str(error))
        else:
            if checked != self._checked:
                _log.info("read the metadata DB's URL again from %s", file, extra={"file": file, "url": checked.shown})
            self._checked, self._problem = checked, None

    def _keep(self, file: Path, problem: str) -> None:
        if problem != self._problem:
            _log.warning(
                "cannot use the metadata DB's URL in %s: %s; the previous URL stays in use",
                file,
                problem,
                extra={"file": file, "reason": problem},
            )
        self._problem = problem


def from_environment(environ: Mapping[str, str]) -> str | None:
    """Return the first URL in the environment, without validation."""
    return next((environ[name] for name in ENVIRONMENT if environ.get(name)), None)


def show_server(info: psycopg.ConnectionInfo) -> str:
    """Return the server of a session as a URL, with the effect of a service file, PG* variables and defaults."""
    server = {"host": info.host, "port": info.port, "dbname": info.dbname, "user": info.user}
    return _show({name: str(value) for name, value in server.items()})


def _text_of(file: Path) -> str:
    content = file.read_bytes()
    if content.startswith(_UTF16_BYTE_ORDER_MARKS):
        raise InvalidMetadataDbUrl("it begins with a UTF-16 byte order mark: save it as UTF-8 without one")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidMetadataDbUrl(f"it is not UTF-8 text; {_EXPECTED}") from None


def _check(url: str) -> _Checked:
    url = url.strip()
    if url.startswith(_BYTE_ORDER_MARK):
        raise InvalidMetadataDbUrl("it begins with a UTF-8 byte order mark (BOM): save it without one")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise InvalidMetadataDbUrl(f"it is not a postgresql:// URL; {_EXPECTED}")
    conninfo = f"postgresql://{rest}"
    try:
        parameters = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # libpq's message quotes a part of the URL, which is often the password.
        unknown = _unknown_parameters(rest)
        raise InvalidMetadataDbUrl(unknown or _UNREADABLE) from None
    if _is_misparsed(rest, parameters):
        raise InvalidMetadataDbUrl(_UNREADABLE)
    return _Checked(conninfo, _show(parameters))


def _unknown_parameters(rest: str) -> str | None:
    """Return a message with the unknown parameters; None if there are none, or if they may be parts of a password."""
    _, _, query = rest.partition("?")
    names = [unquote(each.partition("=")[0]) for each in query.split("&") if each]
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"ssl"}
    unknown = [name for name in names if name not in known]
    if not unknown or "@" in query or not all(_PARAMETER_NAME.fullmatch(name) for name in unknown):
        return None
    listed = ", ".join(f"'{name}'" for name in unknown)
    return f"libpq has no parameter {listed}: remove it from the URL; {_EXPECTED}"


def _is_misparsed(rest: str, parameters: Mapping[str, object]) -> bool:
    """Whether a part of a password with @ or / was parsed as host, port or database, which are shown."""
    address = rest.partition("?")[0]
    ports = str(parameters.get("port") or "").split(",")
    return address.count("@") > 1 or "@" in address.partition("/")[2] or not all(p.isdigit() for p in ports if p)


def _show(parameters: Mapping[str, Any]) -> str:
    """Return a URL without its password, and without values of a service file, PG* variables or defaults."""
    user, database = (parameters.get(name) or "" for name in ("user", "dbname"))
    hosts, ports = (str(parameters.get(name) or "").split(",") for name in ("host", "port"))
    query = {name: parameters[name] for name in ("hostaddr", "service") if parameters.get(name)}
    if hosts[0].startswith(("/", "@")):
        query["host"] = ",".join(hosts)
        if any(ports) and ports != ["5432"]:
            query["port"] = ",".join(ports)
        address = ""
    else:
        each_port = ports * len(hosts) if len(ports) == 1 else ports
        address = ",".join(map(_address, hosts, each_port))
    at = f"{user}@" if user else ""
    settings = "&".join(f"{name}={quote(str(value), safe='/,:@')}" for name, value in query.items())
    return f"postgresql://{at}{address}/{database}" + (f"?{settings}" if settings else "")


def _address(host: str, port: str) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return f"{bracketed}:{port}" if port else bracketed
