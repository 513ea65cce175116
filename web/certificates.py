"""Certificates and keys, checked before the server has them, which ends where it meets one that it cannot use."""

import re
import ssl
import warnings
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

from amp_workers.web.memory_file import MemoryFile
from amp_workers.web.tls_trial import TrialError, try_tls

# Of a serial number that is negative or zero. Nobody can do anything about it in a server's log, where it would be a
# line of a form of its own.
warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)


class CertificateError(Exception):
    """A certificate or a key cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Tls:
    """What a TLS server needs, as PEM: the chain, the key (PKCS#8) and, where clients must show a certificate, the
    authorities that may have signed it. `oldest` is `tls1.2` or `tls1.3`."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    oldest: str
    client_names: frozenset[str] = frozenset()
    """Subject alternative names, of which a client's certificate must have one; any will do where there is none."""

    def __repr__(self) -> str:
        return f"Tls(oldest={self.oldest!r})"  # a key must not get into a log


Source = tuple[str, bytes]
"""What to call a PEM text in an error, and the text."""


def read_tls(
    chain: Source, key: Source, client_ca: Source | None, oldest: str, client_names: frozenset[str] = frozenset()
) -> Tls:
    """Check a certificate chain, its key and the clients' authorities.

    Raises:
        CertificateError: one of them cannot be used.
    """
    certificates = _certificates(chain)
    private_key = _private_key(key)
    leaf = certificates[0]
    try:
        version, public_key = leaf.version, leaf.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateError(
            f"{chain[0]}: the certificate's key, or its version, is none that can be used"
        ) from error
    if version is not x509.Version.v3:
        raise CertificateError(f"{chain[0]}: the server takes certificates of X.509 version 3 alone, this is version 1")
    if _encoded(private_key.public_key()) != _encoded(public_key):
        raise CertificateError(f"{key[0]}: this is not the key of the certificate in {chain[0]}")
    tls = Tls(
        _pem(certificates),
        private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        _pem(_certificates(client_ca)) if client_ca is not None else None,
        oldest,
        client_names,
    )
    names = ", ".join(source[0] for source in (chain, key, client_ca) if source is not None)
    try:
        if client_names:
            openssl_context(tls)
        else:
            try_tls(tls.chain, tls.key, tls.client_ca, oldest)
    except ssl.SSLError as error:
        raise CertificateError(f"{names}: OpenSSL does not take them: {error.reason}") from error
    except TrialError as error:
        raise CertificateError(f"{names}: the server does not take them: {error}") from error
    return tls


def openssl_context(tls: Tls) -> ssl.SSLContext:
    """Return what OpenSSL serves TLS with, for clients that have to show a certificate.

    Raises:
        ssl.SSLError: it takes less than is checked here, a chain with an old signature, say.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.oldest == "tls1.3" else ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = ssl.CERT_REQUIRED
    assert tls.client_ca is not None
    context.load_verify_locations(cadata=tls.client_ca.decode())
    # A session can be resumed as long as this context lives, which has it in memory; nobody carries it in a ticket.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    with MemoryFile(tls.chain) as chain, MemoryFile(tls.key) as key:
        context.load_cert_chain(chain.path, key.path)
    return context


def _certificates(source: Source) -> list[x509.Certificate]:
    name, pem = source
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateError(f"{name}: there is no certificate in PEM form that can be read") from error


_PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
"""A file may have certificates, or the parameters of a curve, before its key."""

_RSA_BITS = frozenset({2048, 3072, 4096})
_LEAST_RSA_EXPONENT = 65537

_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def _private_key(source: Source) -> _Key:
    name, pem = source
    block = _PRIVATE_KEY.search(pem)
    try:
        key = load_pem_private_key(block[0] if block is not None else b"", None)
    except TypeError as error:
        raise CertificateError(f"{name}: the key is encrypted, and nobody is there to give its password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{name}: there is no private key in PEM form that can be read") from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size in _RSA_BITS:
        if key.public_key().public_numbers().e < _LEAST_RSA_EXPONENT:
            raise CertificateError(f"{name}: the server takes keys of RSA with an exponent of {_LEAST_RSA_EXPONENT}")
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in {"secp256r1", "secp384r1"}:
        return key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    raise CertificateError(
        f"{name}: the server takes keys of RSA with 2048, 3072 or 4096 bits, P-256, P-384 and Ed25519"
    )


def _encoded(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
