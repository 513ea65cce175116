"""The TLS context of a server, checked before connections use it."""

import os
import platform
import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from amp_workers.web.config.watched import ConfigError

_PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class Pem:
    """A PEM text. name: where it comes from, for errors."""

    name: str
    text: bytes = field(repr=False)


@dataclass(frozen=True)
class TlsSettings:
    """What `tls_server_config` contains, in the notation of Python's `ssl`.

    cert: a chain of certificates. client_ca: the clients' authorities. cipher_suites: of TLS 1.2. An empty list means
    OpenSSL's default.
    """

    cert: Pem
    key: Pem
    client_ca: Pem | None = None
    client_auth_type: ssl.VerifyMode = ssl.CERT_NONE
    client_allowed_sans: Sequence[str] = ()
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    cipher_suites: Sequence[str] = ()
    curve_preferences: Sequence[str] = ()


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return the context of a server. Raises ConfigError where OpenSSL cannot serve with the settings."""
    chain, key, client_ca = settings.cert, settings.key, settings.client_ca
    pems = [pem for pem in (chain, key, client_ca) if pem is not None]
    for pem in pems:
        if pem is not key and b"-----BEGIN CERTIFICATE-----" not in pem.text:
            raise ConfigError(f"{pem.name}: contains no certificate in PEM form")
    try:
        context = _context(settings)
        _try_handshake(context, settings)
        if client_ca is not None:
            context.verify_mode = settings.client_auth_type
            context.load_verify_locations(cadata=client_ca.text.decode("ascii", "replace"))
            # OpenSSL verifies a certificate once in a session. Without tickets, no session outlives this context. See
            # `client_certificate.check` for those that TLS 1.2 resumes until then.
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{key.name}: this is not the key of the certificate in {chain.name}") from error
        names, reason = ", ".join(pem.name for pem in pems), error.reason or "damaged PEM text"
        raise ConfigError(f"{names}: OpenSSL cannot use them: {reason}") from error
    return context


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context, key = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings.key
    context.minimum_version, context.maximum_version = settings.min_version, settings.max_version
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    if settings.cipher_suites:
        context.set_ciphers(":".join(settings.cipher_suites))
    for curve in settings.curve_preferences:
        try:
            context.set_ecdh_curve(curve)
        except (ssl.SSLError, ValueError) as error:
            # Python 3.11.2, which is Debian 12's, selects the curves of NIST alone.
            message = f"curve_preferences: Python {platform.python_version()} cannot select {curve}; CurveP256 works"
            raise ConfigError(message) from error

    # A key file may contain certificates as well, which must not be sent with the chain.
    key_block = _PRIVATE_KEY.search(key.text)
    if key_block is None:
        raise ConfigError(f"{key.name}: contains no private key in PEM form")
    if b"ENCRYPTED" in key_block[0]:
        raise ConfigError(f"{key.name}: the key is encrypted, and a server cannot ask for its password")
    # Python loads a certificate and its key from paths alone: here from a file in memory.
    with os.fdopen(os.memfd_create("tls"), "wb", buffering=0) as file:
        file.write(key_block[0] + b"\n" + settings.cert.text)
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def _try_handshake(context: ssl.SSLContext, settings: TlsSettings) -> None:
    """Shake hands in memory with each version of TLS: what loads can still be unusable, for example a certificate with
    cipher suites of another key type."""
    for version in {settings.min_version, settings.max_version}:
        client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
        client_context.minimum_version = client_context.maximum_version = version
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context.wrap_bio(to_client, to_server)
        server = context.wrap_bio(to_server, to_client, server_side=True)
        unfinished = [client, server]
        while unfinished:
            for end in tuple(unfinished):
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                    unfinished.remove(end)
