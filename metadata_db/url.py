"""The metadata DB's URL: checked once, and shown without its password."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from amp_workers.errors import AmpError

ENVIRONMENT = ("AMP_METADATA_DB_URL", "AMP_CONFIG_METADATA_DB__URL")
"""Where the URL may come from, first one first. The second is the name that Amp's own `ampd` reads."""

_EXPECTED = "expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
_UNREADABLE = f"libpq cannot read it (are @ : / ? # % in the password percent-encoded?); {_EXPECTED}"


class InvalidMetadataDbUrl(AmpError, ValueError):
    """The URL cannot be used; the message says why and holds no part of the URL, which may hold a password."""


@dataclass(frozen=True)
class MetadataDbUrl:
    """A URL that libpq understands. Its `str` and `repr` have no password in them."""

    conninfo: str = field(repr=False)
    """The URL as libpq takes it, with the password. It goes to libpq and nowhere else."""

    options: str
    """The server's settings that the URL asks for, as libpq takes them: `-c search_path=amp`."""

    shown: str
    """`postgresql://user@host:5432/database`, for people."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Check a URL.

        Raises:
            InvalidMetadataDbUrl: it is no `postgresql://` URL, or libpq cannot read it.
        """
        scheme, separator, rest = url.strip().partition("://")
        if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
            raise InvalidMetadataDbUrl(f"it is not a postgresql:// URL; {_EXPECTED}")
        conninfo = f"postgresql://{rest}"
        try:
            parameters = conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError:
            # libpq's own message quotes what it stumbled over, which is often the password.
            raise InvalidMetadataDbUrl(_UNREADABLE) from None
        if _is_garbled(rest, parameters):
            raise InvalidMetadataDbUrl(_UNREADABLE)
        return cls(conninfo, str(parameters.get("options") or ""), _show(parameters))

    def __str__(self) -> str:
        return self.shown


def from_environment(environ: Mapping[str, str]) -> str | None:
    """Return the first URL that the environment holds, unchecked."""
    return next((environ[name] for name in ENVIRONMENT if environ.get(name)), None)


def _is_garbled(rest: str, parameters: Mapping[str, object]) -> bool:
    """Whether a password with an @ or a / in it was taken for a host, a port or a database, which we would show."""
    address = rest.partition("?")[0]
    ports = str(parameters.get("port") or "").split(",")
    return address.count("@") > 1 or "@" in address.partition("/")[2] or not all(p.isdigit() for p in ports if p)


def _show(parameters: Mapping[str, object]) -> str:
    user = f"{parameters['user']}@" if parameters.get("user") else ""
    host = str(parameters.get("host") or "localhost")
    port = f":{parameters['port']}" if parameters.get("port") else ""
    database = parameters.get("dbname") or parameters.get("user") or ""
    if host.startswith("/"):
        return f"postgresql://{user}/{database}?host={host}"
    return f"postgresql://{user}{host}{port}/{database}"
