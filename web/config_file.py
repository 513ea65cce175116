"""The web configuration file: TLS, users and headers, as the servers of exporter-toolkit read them."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from amp_workers.web.certificates import CertificateError, Tls, read_tls


class WebConfigError(Exception):
    """A web configuration file cannot be used; the message names the file, the key and the reason."""


@dataclass(frozen=True)
class WebConfig:
    """What one file says. `users` has a bcrypt hash for each name."""

    tls: Tls | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    files: frozenset[Path] = frozenset()
    """Those that it names: a change of one is a change of the configuration."""
    key_file: Path | None = None
    """Where the key is: the file itself, or one that it names."""

    @property
    def demands_certificates(self) -> bool:
        """Whether TLS lets nobody through who does not show one."""
        return self.tls is not None and self.tls.client_ca is not None


_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""NUL, which ends a path, and halves of surrogate pairs, which have no bytes. Escapes in double quotes make them."""

_HASH = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_HIGHEST_COST = 15
"""About 2 s a password. One more doubles it, and it is this process's processor that an attacker keeps busy."""

_HEADERS = {
    "Content-Security-Policy": None,
    "Strict-Transport-Security": None,
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": None,
}
"""Which headers may be set, and to which values where not to any."""

_VERSIONS = {"TLS12": "tls1.2", "TLS13": "tls1.3"}
_NULLS = ("~", "null", "Null", "NULL")
_BOOLEANS = {"true", "yes", "on", "y", "false", "no", "off", "n"}

_CLIENT_AUTH_REFUSED = "is not supported: the server either demands a certificate of client_ca_file or asks for none"
_REFUSED_CLIENT_AUTH = {
    "RequestClientCert": _CLIENT_AUTH_REFUSED,
    "RequireAnyClientCert": _CLIENT_AUTH_REFUSED + ". Anybody can make one that nobody verifies",
    "RequireClientCert": _CLIENT_AUTH_REFUSED + ". Anybody can make one that nobody verifies",
    "VerifyClientCertIfGiven": _CLIENT_AUTH_REFUSED,
}
_REFUSED_TLS = {
    "cipher_suites": "is not supported: the server's own are all of authenticated encryption and forward secrecy",
    "curve_preferences": "is not supported: the server's own are X25519, P-256 and P-384",
}
_SIX_PATHS = ("cert", "key", "client_ca", "cert_file", "key_file", "client_ca_file")


def read_web_config(path: Path) -> WebConfig:
    """Read a file and the certificates that it names. Relative names begin at the file's own directory.

    Raises:
        WebConfigError: something in it is wrong, or not supported.
    """
    try:
        document = yaml.load(path.read_bytes(), _Loader)  # noqa: S506 - every scalar is a string to this loader
    except RecursionError:
        raise WebConfigError(f"{path}: it is nested too deeply") from None
    except OSError as error:
        raise WebConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise WebConfigError(f"{path}: {_one_line(error)}") from error
    try:
        return _web_config(_Section("", document), path.absolute())
    except (_Wrong, CertificateError) as error:
        raise WebConfigError(f"{path}: {error}") from error


class _Wrong(Exception):
    """Something about one key."""


class _Section:
    """A mapping of the file. Whoever takes all that it knows calls `end`, which refuses the rest."""

    def __init__(self, name: str, value: Any) -> None:
        self._name = name
        if value in ("", None):  # `key:` with nothing after it
            value = {}
        if not isinstance(value, dict):
            raise _Wrong(f"{name or 'the file'} must be a mapping of keys to values")
        self._left: dict[Any, Any] = dict(value)

    def name(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def __bool__(self) -> bool:
        return bool(self._left)

    def section(self, key: str) -> "_Section":
        return _Section(self.name(key), self._left.pop(key, None))

    def text(self, key: str, default: str = "") -> str:
        value = self._left.pop(key, default) or default
        if not isinstance(value, str):
            raise _Wrong(f"{self.name(key)} must be a text")
        return value

    def choice(self, key: str, default: str, check: Callable[[str], str | None]) -> str:
        """Take a text; `check` returns what is wrong with it."""
        value = self.text(key, default)
        wrong = check(value)
        if wrong is not None:
            raise _Wrong(f"{self.name(key)}: {value} {wrong}")
        return value

    def names(self, key: str) -> frozenset[str]:
        """Take a list of texts."""
        value = self._left.pop(key, None) or []
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise _Wrong(f"{self.name(key)} must be a list of texts")
        return frozenset(value)

    def boolean(self, key: str) -> None:
        """Take a boolean that changes nothing."""
        if self.text(key, "true").lower() not in _BOOLEANS:
            raise _Wrong(f"{self.name(key)} must be true or false")

    def texts(self) -> dict[str, str]:
        """Take everything, as texts."""
        return {str(key): self.text(key) for key in list(self._left)}

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Refuse what is known and not supported, unless it is empty."""
        for key, reason in reasons.items():
            if self._left.pop(key, None):
                raise _Wrong(f"{self.name(key)} {reason}")

    def end(self) -> None:
        for key in self._left:
            raise _Wrong(f"{self.name(str(key))} is no key of a web configuration file")


def _web_config(document: _Section, path: Path) -> WebConfig:
    tls_section = document.section("tls_server_config")
    http = document.section("http_server_config")
    users = document.section("basic_auth_users")
    limit = document.section("rate_limit")
    document.end()

    # HTTP/1.1 is what is served: every client of HTTP/2 takes it, and Granian ends no idle connection of HTTP/2.
    http.boolean("http2")
    headers = _headers(http.section("headers"))
    http.end()

    limit.choice("interval", "0s", _limit)
    limit.choice("burst", "0", lambda burst: None if re.fullmatch("[0-9]{1,18}", burst) else "is no number")
    limit.end()
    tls, files = _tls(tls_section, path.parent) if tls_section else (None, dict[str, Path]())
    key_file = files.get("key", path) if tls is not None else None
    return WebConfig(tls, _users(users), headers, frozenset(files.values()), key_file)


def _limit(interval: str) -> str | None:
    off = re.fullmatch(r"0+[a-zµ]*", interval)
    return None if off else "is not supported: a proxy in front, or a firewall, can limit requests"


def _tls(section: _Section, directory: Path) -> tuple[Tls, dict[str, Path]]:
    given = {key: section.text(key) for key in _SIX_PATHS}
    for key in ("cert", "key"):
        if not given[key] and not given[f"{key}_file"]:
            raise _Wrong(f"{section.name(f'{key}_file')} is missing: TLS needs a certificate and its key")
    for key in ("cert", "key", "client_ca"):
        if given[key] and given[f"{key}_file"]:
            raise _Wrong(f"{section.name(key)} and {section.name(f'{key}_file')} are both given: keep one")

    client_auth = section.choice("client_auth_type", "NoClientCert", _client_auth)
    has_client_ca = bool(given["client_ca"] or given["client_ca_file"])
    if client_auth == "RequireAndVerifyClientCert" and not has_client_ca:
        raise _Wrong(f"{section.name('client_ca_file')} is missing: client_auth_type is {client_auth}")
    if client_auth == "NoClientCert" and has_client_ca:
        raise _Wrong(
            f"{section.name('client_ca_file')} is given, and client_auth_type is {client_auth}: "
            "RequireAndVerifyClientCert has clients show a certificate"
        )
    client_names = section.names("client_allowed_sans")
    if client_names and client_auth == "NoClientCert":
        raise _Wrong(
            f"{section.name('client_allowed_sans')} is given, and client_auth_type is {client_auth}: "
            "RequireAndVerifyClientCert has clients show a certificate, whose names can be compared"
        )

    oldest = section.choice("min_version", "TLS12", _min_version)
    section.choice("max_version", "TLS13", _max_version)
    section.boolean("prefer_server_cipher_suites")  # Go has ignored it since 1.17
    section.refuse(_REFUSED_TLS)
    section.end()

    files = {key: directory / given[f"{key}_file"] for key in ("cert", "key", "client_ca") if given[f"{key}_file"]}

    def pem(key: str) -> tuple[str, bytes]:
        """The name of a key of the file and the PEM text behind it."""
        if key not in files:
            return section.name(key), given[key].encode()
        option, file = section.name(f"{key}_file"), files[key]
        name = f"{option}: {file}"
        try:
            return name, file.read_bytes()
        except OSError as error:
            shown = name if _may_be_shown(key, file) else option
            raise _Wrong(f"{shown}: {error.strerror}") from error

    client_ca = pem("client_ca") if has_client_ca else None
    return read_tls(pem("cert"), pem("key"), client_ca, _VERSIONS[oldest], client_names), files


def _may_be_shown(key: str, file: Path) -> bool:
    """Tell whether a file that cannot be read has a name, and not the text that belongs into it."""
    if os.path.exists(file):  # noqa: PTH110 - Path's raises an error where this one says no
        return True
    return key != "key" and str(file).isprintable()


def _client_auth(value: str) -> str | None:
    if value in {"NoClientCert", "RequireAndVerifyClientCert"}:
        return None
    return _REFUSED_CLIENT_AUTH.get(value, "is none of NoClientCert and RequireAndVerifyClientCert")


def _min_version(value: str) -> str | None:
    return None if value in _VERSIONS else "is not supported: use TLS12 or TLS13"


def _max_version(value: str) -> str | None:
    return (
        None if value == "TLS13" else "is not supported: the server always offers TLS13, beside what min_version allows"
    )


def _headers(section: _Section) -> dict[str, str]:
    headers = section.texts()
    for name, value in headers.items():
        if name not in _HEADERS:
            raise _Wrong(f"{section.name(name)} cannot be set; these can: {', '.join(_HEADERS)}")
        if not (value.isascii() and value.isprintable()):
            raise _Wrong(f"{section.name(name)} must be one line of printable ASCII")
        allowed = _HEADERS[name]
        if value and allowed is not None and value not in allowed:
            raise _Wrong(f"{section.name(name)} must be {' or '.join(allowed)}")
    return {name: value for name, value in headers.items() if value}


def _users(section: _Section) -> dict[str, bytes]:
    hashes = section.texts()
    for name, bcrypt_hash in hashes.items():
        if ":" in name:
            raise _Wrong(f"{section.name(name)}: a name with a colon cannot log in, a colon ends it")
        match = _HASH.fullmatch(bcrypt_hash)
        if match is None:
            raise _Wrong(f"{section.name(name)} must be a bcrypt hash: $2y$10$ and 53 characters more")
        if not 4 <= int(match[1]) <= _HIGHEST_COST:
            raise _Wrong(f"{section.name(name)}: a bcrypt cost of {match[1]} is not from 4 to {_HIGHEST_COST}")
    return {name: bcrypt_hash.encode() for name, bcrypt_hash in hashes.items()}


class _Loader(yaml.BaseLoader):
    """Reads every scalar as a string, so that a user may be named `on` or `007`; a key that is there twice is an
    error, as it is to Go."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: ARG002 - PyYAML's signature
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in mapping:
                problem = f"'{key}' is there twice" if isinstance(key, str) else "a key must be a text"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)
            if mapping[key] in _NULLS and value_node.style is None:  # without quotes
                mapping[key] = ""
        return mapping

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        if _UNWRITABLE.search(text):
            problem = "a text has a character in it that no path and no certificate can have"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return text


_QUOTED = re.compile(r"""'[^']{2,}'|"[^"]{2,}\"""")


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        problem = error.problem or "it is no YAML"
        if not isinstance(error, yaml.constructor.ConstructorError):
            # A password that begins with * is an alias, and one that begins with ! a tag.
            problem = _QUOTED.sub("'…'", problem)
        return f"line {error.problem_mark.line + 1}: {problem}"
    return "it is no YAML"
