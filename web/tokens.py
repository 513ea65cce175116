"""Bearer tokens: where they come from, and whether a request has one of them."""

import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

SHORTEST = 16
"""Characters. What is shorter can be guessed."""


class TokenError(Exception):
    """A token cannot be used; the message says where it is and never what it is."""


class Tokens:
    """A set of tokens, of which it keeps the hashes."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._digests: Sequence[bytes] = [_digest(token) for token in tokens]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admit(self, token: str) -> bool:
        """Tell whether it is one of them, in the same time whichever it is."""
        digest = _digest(token)
        admitted = False
        for each in self._digests:
            admitted |= hmac.compare_digest(digest, each)
        return admitted


def read_tokens(path: Path) -> list[str]:
    """Read a file with one token a line. Empty lines, and those that begin with `#`, are passed over.

    Raises:
        TokenError: the file cannot be read, has no token, or one that cannot be used.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        # What names no file may be a token.
        name = path if os.path.exists(path) else "--auth-token-file"  # noqa: PTH110 - Path's raises where this says no
        raise TokenError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TokenError(f"{path}: it is not UTF-8 text") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    tokens = [check_token(text, f"{path}, line {number}") for number, text in numbered if text and text[0] != "#"]
    if not tokens:
        raise TokenError(f"{path}: there is no token in it")
    return tokens


def check_token(token: str, where: str) -> str:
    """Return a token that can be used.

    Raises:
        TokenError: it cannot.
    """
    if token.startswith("\ufeff"):
        raise TokenError(f"{where}: it begins with a UTF-8 byte order mark (BOM): save it without one")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise TokenError(f"{where}: a token is of printable ASCII characters, without a space")
    if ":" in token:
        raise TokenError(f"{where}: a token has no colon in it: clients take it for a user and a password then")
    if len(token) < SHORTEST:
        raise TokenError(f"{where}: the token is shorter than {SHORTEST} characters; `openssl rand -hex 32` makes one")
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
