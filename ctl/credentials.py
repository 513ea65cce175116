"""The Authorization header, from a bearer token or from `user:password`."""

import ipaddress
import re

from amp_workers.ctl.errors import InvalidCredentials

# How U+FEFF arrives: decoded as UTF-8, as undecodable bytes (PEP 383), or as ISO 8859-1.
_BYTE_ORDER_MARKS = ("\ufeff", "\udcef\udcbb\udcbf", "\xef\xbb\xbf")

_TOKEN = re.compile(r"[!-~]+")


def authorization(auth_token: str, source: str) -> str:
    """Return the header's value. Newlines around the token are removed: files and `echo` add them.

    source: of the token, for the message.

    Raises:
        InvalidCredentials: HTTP cannot carry this token.
    """
    token = auth_token.strip("\r\n")
    if token.startswith(_BYTE_ORDER_MARKS):
        raise InvalidCredentials(
            f"{source} begins with a byte order mark (U+FEFF), which some editors add: save it as UTF-8 without a BOM"
        )
    if not token:
        raise InvalidCredentials(f"{source} is empty")
    # RFC 6750 allows no colon in a bearer token.
    if ":" in token:
        if not token.isprintable():
            raise InvalidCredentials(f"{source} is user:password, with a character that HTTP cannot carry")
        import base64

        return f"Basic {base64.b64encode(token.encode()).decode()}"
    if not _TOKEN.fullmatch(token):
        raise InvalidCredentials(f"{source} has a character that is invalid in a token, such as a space")
    return f"Bearer {token}"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
