"""Secrets that are planted in a deployment, and the search for them."""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import quote

import bcrypt
import trustme

DATABASE_PASSWORD = "pa%s5/w:or@d#é &=hunter2"
"""Contains each character that has a meaning in a URL, a shell, SQL or a string formatter."""

AUTH_TOKEN = "t0ken-hunter3/with+signs="

FILE_TOKEN = "t0ken-0f-a-file-hunter4"

USER_PASSWORD = "hunter5-and-n0-more"
"""This text is also a valid name of a YAML alias."""

USER_HASH = bcrypt.hashpw(USER_PASSWORD.encode(), bcrypt.gensalt(4)).decode()

_LEAF = trustme.CA().issue_cert("localhost")
TLS_CERTIFICATE = _LEAF.cert_chain_pems[0].bytes().decode()
TLS_KEY = _LEAF.private_key_pem.bytes().decode()

PLANTED: Mapping[str, str] = {
    "the metadata DB's password": DATABASE_PASSWORD,
    "the Admin API's token": AUTH_TOKEN,
    "a token of the file": FILE_TOKEN,
    "a user's password": USER_PASSWORD,
    "a password's hash": USER_HASH,
    "the TLS key": TLS_KEY.splitlines()[1],
}
"""All secrets that must not appear anywhere. A new secret needs a line here, and a place where it is planted."""


def forms(secret: str) -> set[bytes]:
    """Return the forms in which a secret may appear: plain, percent-encoded, the part after an @, escaped, or in
    Base64.
    """
    texts = {secret, quote(secret, safe=""), quote(secret), secret.replace("\\", "\\\\"), ascii(secret)[1:-1]}
    texts |= {secret.rsplit("@", maxsplit=1)[-1], quote(secret.rsplit("@", maxsplit=1)[-1], safe="")}
    encoded = {text.encode() for text in texts}
    return encoded | {base64.b64encode(secret.encode()), binascii.hexlify(secret.encode())}


def found(places: Mapping[str, bytes]) -> list[str]:
    """Report which secret is where: `the Admin API's token is in the worker's log`."""
    return [
        f"{name} is in {place}"
        for place, content in places.items()
        for name, secret in PLANTED.items()
        if any(form in content for form in forms(secret))
    ]
