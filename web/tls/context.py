"""The TLS context of a server, checked before connections use it."""

import hashlib
import os
import platform
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class CertificateError(Exception):
    """A certificate or a key cannot be used; the message names it and the reason."""


@dataclass(frozen=True)
class Pem:
    """A PEM text. name: where it comes from, for errors."""

    name: str
    text: bytes = field(repr=False)


@dataclass(frozen=True)
class TlsSettings:
    """client_names: subject alternative names, of which a client's certificate must have one; empty: any name.
    ciphers: of TLS 1.2, and curve, in OpenSSL's notation; empty: OpenSSL's default."""

    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_names: frozenset[str] = frozenset()
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: str = ""
    curve: str = ""


@dataclass(frozen=True)
class Tls:
    """TLS of one state of the files. Two are equal where the files have the same content."""

    settings: TlsSettings
    digest: bytes = field(repr=False)
    context: ssl.SSLContext = field(compare=False, repr=False)


def build_tls(settings: TlsSettings, chain: Pem, key: Pem, client_ca: Pem | None) -> Tls:
    """Return the TLS of a certificate chain, its key and the clients' authorities.

    Raises CertificateError where OpenSSL cannot serve with them.
    """
    pems = [pem for pem in (chain, key, client_ca) if pem is not None]
    for pem in pems:
        label, what = (b"[A-Z ]*PRIVATE KEY", "private key") if pem is key else (b"CERTIFICATE", "certificate")
        if re.search(b"-----BEGIN " + label + b"-----", pem.text) is None:
            raise CertificateError(f"{pem.name}: there is no {what} in PEM form")
    try:
        _try_handshake(_context(settings, chain, key), settings)
        context = _context(settings, chain, key)
        if client_ca is not None:
            context.verify_mode = settings.client_auth
            context.load_verify_locations(cadata=client_ca.text.decode("ascii", "replace"))
            # OpenSSL verifies a certificate once in a session. Without tickets, no session outlives this context; see
            # `client_certificate.has_expired` for those that TLS 1.2 resumes until then.
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"{key.name}: this is not the key of the certificate in {chain.name}") from error
        names, reason = ", ".join(pem.name for pem in pems), error.reason or "damaged PEM text"
        raise CertificateError(f"{names}: OpenSSL cannot use them: {reason}") from error
    digest = hashlib.sha256(b"".join(hashlib.sha256(pem.text).digest() for pem in pems)).digest()
    return Tls(settings, digest, context)


def _context(settings: TlsSettings, chain: Pem, key: Pem) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = settings.min_version, settings.max_version
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    if settings.ciphers:
        context.set_ciphers(settings.ciphers)
    if settings.curve:
        _set_curve(context, settings.curve)

    def no_password() -> str:
        raise CertificateError(f"{key.name}: the key is encrypted; a server has no terminal to ask for its password")

    with _memory_file(chain.text) as chain_path, _memory_file(key.text) as key_path:
        context.load_cert_chain(chain_path, key_path, no_password)
    return context


def _set_curve(context: ssl.SSLContext, curve: str) -> None:
    try:
        context.set_ecdh_curve(curve)
    except (ssl.SSLError, ValueError) as error:
        # Python 3.11.2, which is Debian 12's, selects the curves of NIST alone.
        message = f"curve_preferences: Python {platform.python_version()} cannot select {curve}; CurveP256 works"
        raise CertificateError(message) from error


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
        while not (_step(client) & _step(server)):
            pass


def _step(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """Give the path of a file in memory: Python loads a certificate and a key from paths alone."""
    with os.fdopen(os.memfd_create("tls"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
