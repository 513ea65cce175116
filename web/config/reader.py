"""Reads a web configuration file: TLS, users and headers, as the servers of exporter-toolkit have it."""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from amp_workers.web.config.document import ANY_KEY, Schema, matching, one_of, read_document
from amp_workers.web.config.watched import ConfigError, ReadFile
from amp_workers.web.config.web_config import WebConfig
from amp_workers.web.tls.context import Pem, TlsSettings, server_context

_HASH = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_HIGHEST_COST = 15
"""About 2 s per password. Each cost more doubles the time for which an attacker can keep the processor busy."""

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OLD = dict.fromkeys(("TLS10", "TLS11"), "not supported: RFC 8996 deprecates it. Use TLS12 or TLS13")

_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = dict.fromkeys(
    ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"),
    "not supported: Python's ssl verifies each certificate that it requests, and an unverified one proves nothing. "
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
"""The cipher suites of TLS 1.2 by Go's names and by OpenSSL's. Python cannot choose among those of TLS 1.3."""

_CURVES = {"X25519": "X25519", "CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}


def _hash(text: str) -> bytes:
    match = _HASH.fullmatch(text)
    if match is None:
        raise ValueError("not a bcrypt hash, which is $2y$10$ and 53 more characters")
    if not 4 <= int(match[1]) <= _HIGHEST_COST:
        raise ValueError(f"a bcrypt cost of {match[1]} is not from 4 to {_HIGHEST_COST}")
    return text.encode()


_boolean = matching("(?i:true|yes|on|y|false|no|off|n)", "not true or false")
_header = matching("[ -~]+", "not one line of printable ASCII")

_SCHEMA: Mapping[str, Schema] = {
    "tls_server_config": {
        **dict.fromkeys(("cert", "key", "client_ca", "cert_file", "key_file", "client_ca_file"), str),
        "client_auth_type": one_of(_CLIENT_AUTH, _UNVERIFIED),
        "client_allowed_sans": [str],
        "min_version": one_of(_VERSIONS, _OLD),
        "max_version": one_of(_VERSIONS, _OLD),
        "cipher_suites": [one_of(_SUITES)],
        "curve_preferences": [one_of(_CURVES)],
        "prefer_server_cipher_suites": _boolean,  # Go has ignored it since 1.17
    },
    "http_server_config": {
        "http2": _boolean,  # every client of HTTP/2 can use HTTP/1.1
        "headers": {
            "Content-Security-Policy": _header,
            "Strict-Transport-Security": _header,
            "X-Content-Type-Options": one_of({"nosniff": "nosniff"}),
            "X-Frame-Options": one_of({"deny": "deny", "sameorigin": "sameorigin"}),
            "X-XSS-Protection": _header,
        },
    },
    "basic_auth_users": {ANY_KEY: _hash},
    "rate_limit": {
        "interval": matching("0*[a-zµ]*", "not supported: limit requests with a proxy or a firewall"),
        "burst": matching("[0-9]{1,18}", "not a number"),
    },
}

_TLS_SETTINGS = {each.name for each in fields(TlsSettings)}


def read_web_config(path: Path, read_file: ReadFile = Path.read_bytes) -> WebConfig:
    """Read a file and the certificates that it names. Relative names start at the file's own directory.

    Raises ConfigError where something in it is wrong or not supported.
    """
    try:
        document = read_document(read_file(path), _SCHEMA)
        users = document.get("basic_auth_users", {})
        headers = document.get("http_server_config", {}).get("headers", {})
        section = document.get("tls_server_config")
        if not section:
            return WebConfig(users=users, headers=headers)
        directory = path.absolute().parent
        settings = _read_tls(section, directory, read_file)
        key_file = directory / section["key_file"] if "key_file" in section else path
        return WebConfig(server_context(settings), settings.client_allowed_sans, users, headers, key_file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _read_tls(section: dict[str, Any], directory: Path, read_file: ReadFile) -> TlsSettings:
    pems = {each: _read_pem(section, each, directory, read_file) for each in ("cert", "key", "client_ca")}
    if pems["cert"] is None or pems["key"] is None:
        raise ConfigError("tls_server_config needs cert_file and key_file")
    settings = TlsSettings(**{key: value for key, value in (section | pems).items() if key in _TLS_SETTINGS})
    is_tls13_only = settings.min_version is ssl.TLSVersion.TLSv1_3
    verifies = settings.client_auth_type is not ssl.CERT_NONE
    requires = "client_auth_type: RequireAndVerifyClientCert"
    for is_wrong, problem in (
        (verifies != (settings.client_ca is not None), f"client_ca_file and {requires} need each other"),
        (settings.client_allowed_sans and not verifies, f"client_allowed_sans needs {requires}"),
        (settings.max_version < settings.min_version, "max_version is older than min_version"),
        (settings.cipher_suites and is_tls13_only, "cipher_suites needs TLS 1.2, and min_version is TLS13"),
        (len(settings.curve_preferences) > 1, "curve_preferences has more than one curve: Python's ssl takes one"),
    ):
        if is_wrong:
            raise ConfigError(f"tls_server_config.{problem}")
    return settings


def _read_pem(section: Mapping[str, Any], key: str, directory: Path, read_file: ReadFile) -> Pem | None:
    """Return the PEM text of a key such as `cert`, or that of the file that `cert_file` names."""
    name, text, file = f"tls_server_config.{key}", section.get(key), section.get(f"{key}_file")
    if text is not None and file is not None:
        raise ConfigError(f"{name} and {key}_file are both given: keep one")
    path = directory / (file or "")
    try:
        if file is not None:
            return Pem(f"{name}_file: {path}", read_file(path))
        return None if text is None else Pem(name, text.encode())
    except OSError as error:
        # A name that no file has may be the PEM text itself, or a password.
        exists = os.path.exists(path)  # noqa: PTH110 - Path's raises an error where this one returns false
        shown = f": {path}" if exists or (key != "key" and str(path).isprintable()) else ""
        raise ConfigError(f"{name}_file{shown}: {error.strerror}") from error
    except ValueError as error:  # NUL, which no path has, or a half of a surrogate pair, which has no bytes
        raise ConfigError(f"{name} contains a character that it cannot have") from error
