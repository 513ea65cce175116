"""Bearer tokens: where they come from, and whether a request has one of them."""

import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from amp_workers.web.config.watched import ReadFile

SHORTEST = 16
"""Characters. A shorter token can be guessed."""


class TokenError(Exception):
    """A token cannot be used; the message says where it is and never what it is."""


def digests(tokens: Iterable[str]) -> Sequence[bytes]:
    """Return the hashes of tokens."""
    return [hashlib.sha256(token.encode()).digest() for token in tokens]


def admits(known: Sequence[bytes], token: str) -> bool:
    """Return whether a token is one of those with these hashes, in the same time whichever it is."""
    (digest,) = digests([token])
    return sum(hmac.compare_digest(digest, each) for each in known) > 0


def read_tokens(path: Path, read_file: ReadFile = Path.read_bytes) -> list[str]:
    """Read a file with one token a line. Empty lines, and those that begin with `#`, are ignored.

    Raises TokenError where the file cannot be read, has no token, or one that cannot be used.
    """
    try:
        lines = enumerate(read_file(path).decode().splitlines(), 1)
    except OSError as error:
        # What names no file may be a token.
        name = path if os.path.exists(path) else "--auth-token-file"  # noqa: PTH110 - Path's raises an error here
        raise TokenError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TokenError(f"{path}: it is not UTF-8 text") from error
    tokens = [
        check_token(line, f"{path}, line {number}") for number, line in lines if line.strip() and line.strip()[0] != "#"
    ]
    if not tokens:
        raise TokenError(f"{path}: there is no token in it")
    return tokens


def check_token(token: str, where: str) -> str:
    """Return a token without the white space around it; raises TokenError where it cannot be used."""
    token = token.strip()
    if token.startswith("\ufeff"):
        raise TokenError(f"{where}: it begins with a UTF-8 byte order mark (BOM): save it without one")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise TokenError(f"{where}: a token is of printable ASCII characters, without a space")
    if ":" in token:
        raise TokenError(f"{where}: a token has no colon in it: clients take it for a user and a password then")
    if len(token) < SHORTEST:
        raise TokenError(f"{where}: the token is shorter than {SHORTEST} characters; `openssl rand -hex 32` makes one")
    return token
