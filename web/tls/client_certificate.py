"""What a verified client certificate contains."""

import ipaddress
import ssl
import time
from collections.abc import Sequence
from typing import Any

Certificate = dict[str, Any]
"""As `SSLSocket.getpeercert` returns it; empty where the client has sent none."""

_ABBREVIATIONS = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C"}
_ABBREVIATIONS |= {"stateOrProvinceName": "ST", "localityName": "L", "domainComponent": "DC"}
"""RFC 4514, section 3."""

_COMPARED = ("DNS", "email", "IP Address", "URI")
"""The kinds of names that exporter-toolkit compares with `client_allowed_sans`."""


def subject(certificate: Certificate) -> str:
    """Return a certificate's subject, such as `CN=prometheus,O=Example`; its names where the subject is empty."""
    attributes = [
        "+".join(f"{_ABBREVIATIONS.get(key, key)}={_escaped(value)}" for key, value in relative_name)
        for relative_name in reversed(certificate.get("subject", ()))
    ]
    return ",".join(attributes or map(_escaped, names(certificate))) or "client certificate"


def names(certificate: Certificate) -> Sequence[str]:
    """Return the subject alternative names, as exporter-toolkit writes them."""
    found = [(kind, name) for kind, name in certificate.get("subjectAltName", ()) if kind in _COMPARED]
    # OpenSSL writes an IPv6 address in capital letters, without `::`, and with a line feed.
    return [str(ipaddress.ip_address(name.strip())) if kind == "IP Address" else name for kind, name in found]


def check(certificate: Certificate, allowed: Sequence[str], *, resumed: bool) -> None:
    """Raise ssl.SSLError where a client is refused although OpenSSL accepts it.

    allowed: `client_allowed_sans`. resumed: whether the client resumed a session, in which OpenSSL does not verify a
    certificate again.
    """
    found = names(certificate)
    if certificate and allowed and set(allowed).isdisjoint(found):
        shown = ", ".join(map(repr, found)) or "no name at all"
        raise ssl.SSLError(1, f"its certificate has none of client_allowed_sans, but {shown}")
    if certificate and resumed and ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():
        raise ssl.SSLError(1, "its certificate has expired")


def _escaped(value: str) -> str:
    return "".join(f"\\{each}" if each in ',+"\\<>;=' else each if each.isprintable() else "?" for each in value)
