"""Reads a web configuration file: TLS, users and headers, as the servers of exporter-toolkit have it."""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amp_workers.web.config.watched import ReadFile
from amp_workers.web.config.web_config import WebConfig, WebConfigError
from amp_workers.web.config.yaml_document import (
    InvalidDocument,
    Schema,
    boolean,
    many,
    one_of,
    parse,
    text,
    texts,
    validate,
)
from amp_workers.web.tls.context import CertificateError, Pem, Tls, TlsSettings, build_tls

_HASH = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_HIGHEST_COST = 15
"""About 2 s a password. Each cost more doubles the time that an attacker can keep the processor busy."""

_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""Which headers can be set, and to which values where not to any."""

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OLD = dict.fromkeys(("TLS10", "TLS11"), "is not supported: RFC 8996 deprecates it. Use TLS12 or TLS13")

_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = dict.fromkeys(
    ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"),
    "is not supported: Python's ssl verifies each certificate that it requests, and an unverified one proves nothing. "
    "Use VerifyClientCertIfGiven or RequireAndVerifyClientCert",
)

_SUITES = {
    f"TLS_ECDHE_{kind}_WITH_{go}": f"ECDHE-{kind}-{openssl}"
    for kind in ("ECDSA", "RSA")
    for go, openssl in {
        "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
        "AES_128_CBC_SHA": "AES128-SHA",
        "AES_256_CBC_SHA": "AES256-SHA",
    }.items()
}
"""The suites of TLS 1.2 that Go has, by Go's names and by OpenSSL's. Python cannot choose among those of TLS 1.3."""

_CURVES = {"X25519": "X25519", "CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}


def _header(name: str, value: str) -> str:
    if name not in _HEADERS:
        raise ValueError(f".{name} cannot be set; these can: {', '.join(_HEADERS)}")
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f".{name} must be one line of printable ASCII")
    if value and value not in (_HEADERS[name] or value):
        raise ValueError(f".{name} must be {' or '.join(_HEADERS[name])}")
    return value


def _hash(name: str, value: str) -> bytes:
    if ":" in name:
        raise ValueError(f".{name}: a name with a colon cannot log in, because a colon ends the name")
    match = _HASH.fullmatch(value)
    if match is None:
        raise ValueError(f".{name} must be a bcrypt hash: $2y$10$ and 53 characters more")
    if not 4 <= int(match[1]) <= _HIGHEST_COST:
        raise ValueError(f".{name}: a bcrypt cost of {match[1]} is not from 4 to {_HIGHEST_COST}")
    return value.encode()


def _no_limit(value: Any) -> None:
    if not re.fullmatch(r"0*[a-zµ]*", text(value)):
        raise ValueError(f": {value} is not supported: a proxy, or a firewall, can limit requests")


def _number(value: Any) -> None:
    if not re.fullmatch("[0-9]{0,18}", text(value)):
        raise ValueError(f": {value} is no number")


_SCHEMA: Schema = {
    "tls_server_config": {
        **dict.fromkeys(("cert", "key", "client_ca", "cert_file", "key_file", "client_ca_file"), text),
        "client_auth_type": one_of(_CLIENT_AUTH, "NoClientCert", _UNVERIFIED),
        "client_allowed_sans": many(),
        "min_version": one_of(_VERSIONS, "TLS12", _OLD),
        "max_version": one_of(_VERSIONS, "TLS13", _OLD),
        "cipher_suites": many(_SUITES),
        "curve_preferences": many(_CURVES),
        "prefer_server_cipher_suites": boolean,  # Go has ignored it since 1.17
    },
    # HTTP/1.1 is served in any case: every client of HTTP/2 speaks it.
    "http_server_config": {"http2": boolean, "headers": texts(_header)},
    "basic_auth_users": texts(_hash),
    "rate_limit": {"interval": _no_limit, "burst": _number},
}


def read_web_config(path: Path, read_file: ReadFile = Path.read_bytes) -> WebConfig:
    """Read a file and the certificates that it names. Relative names begin at the file's own directory.

    Raises WebConfigError where something in it is wrong, or not supported.
    """
    try:
        document = parse(read_file(path))
        config = validate(document, _SCHEMA)
        headers = {name: value for name, value in config["http_server_config"]["headers"].items() if value}
        if not (document and document.get("tls_server_config")):
            return WebConfig(None, config["basic_auth_users"], headers)
        tls, key_file = _read_tls(config["tls_server_config"], path.absolute().parent, read_file)
        return WebConfig(tls, config["basic_auth_users"], headers, key_file or path)
    except OSError as error:
        raise WebConfigError(f"{path}: {error.strerror}") from error
    except (InvalidDocument, CertificateError) as error:
        raise WebConfigError(f"{path}: {error}") from error


def _read_tls(section: Mapping[str, Any], directory: Path, read_file: ReadFile) -> tuple[Tls, Path | None]:
    """Return TLS as a valid section asks for it, and the file of the key, if it is in one."""
    asks_clients = section["client_auth_type"] is not ssl.CERT_NONE
    has_ca = bool(section["client_ca"] or section["client_ca_file"])
    problems = {
        "cert_file is missing: TLS needs a certificate and its key": not (section["cert"] or section["cert_file"]),
        "key_file is missing: TLS needs a certificate and its key": not (section["key"] or section["key_file"]),
        "client_ca_file is missing: client_auth_type needs the authority of the certificates": asks_clients > has_ca,
        "client_ca_file needs client_auth_type: RequireAndVerifyClientCert": has_ca > asks_clients,
        "client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert": (
            bool(section["client_allowed_sans"]) > asks_clients
        ),
        "max_version is older than min_version": section["max_version"] < section["min_version"],
        "cipher_suites needs TLS 1.2, and min_version is TLS13": (
            section["cipher_suites"] and section["min_version"] is ssl.TLSVersion.TLSv1_3
        ),
        "curve_preferences cannot have more than one curve: Python's ssl takes one": (
            len(section["curve_preferences"]) > 1
        ),
    } | {
        f"{key} and {key}_file are both given: keep one": section[key] and section[f"{key}_file"]
        for key in ("cert", "key", "client_ca")
    }
    for problem, is_there in problems.items():
        if is_there:
            raise InvalidDocument(f"tls_server_config.{problem}")

    def pem(key: str) -> Pem:
        if section[key]:
            return Pem(f"tls_server_config.{key}", section[key].encode())
        file, name = directory / section[f"{key}_file"], f"tls_server_config.{key}_file"
        try:
            return Pem(f"{name}: {file}", read_file(file))
        except OSError as error:
            # A name that no file has may be the PEM text itself, or a password.
            exists = os.path.exists(file)  # noqa: PTH110 - Path's raises an error where this one returns false
            shown = f"{name}: {file}" if exists or (key != "key" and str(file).isprintable()) else name
            raise InvalidDocument(f"{shown}: {error.strerror}") from error

    settings = TlsSettings(
        client_auth=section["client_auth_type"],
        client_names=frozenset(section["client_allowed_sans"]),
        min_version=section["min_version"],
        max_version=section["max_version"],
        ciphers=":".join(section["cipher_suites"]),
        curve="".join(section["curve_preferences"]),
    )
    key_file = directory / section["key_file"] if section["key_file"] else None
    return build_tls(settings, pem("cert"), pem("key"), pem("client_ca") if has_ca else None), key_file
