"""Bearer tokens: how a file contains them, and whether a request has one of them."""

import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from amp_workers.web.config.watched import ConfigError, ReadFile

SHORTEST = 16
"""Characters. A shorter token can be guessed."""


def digests(tokens: Iterable[str]) -> Sequence[bytes]:
    """Return the hashes of tokens."""
    return [hashlib.sha256(token.encode()).digest() for token in tokens]


def admits(known: Sequence[bytes], token: str) -> bool:
    """Return whether a token is one of those with these hashes. Each of them takes the same time."""
    (digest,) = digests([token])
    return sum(hmac.compare_digest(digest, each) for each in known) > 0


def read_tokens(path: Path, read_file: ReadFile = Path.read_bytes) -> list[str]:
    """Read a file with one token per line. Empty lines, and those that begin with `#`, are ignored.

    Raises ConfigError where the file cannot be read, has no token, or has one that cannot be used.
    """
    try:
        lines = [line.strip() for line in read_file(path).decode().splitlines()]
    except OSError as error:
        # A path that does not exist may be a token.
        name = path if os.path.exists(path) else "--auth-token-file"  # noqa: PTH110 - Path's raises an error here
        raise ConfigError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    tokens = [
        check_token(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line and line[0] != "#"
    ]
    if not tokens:
        raise ConfigError(f"{path}: the file contains no token")
    return tokens


def check_token(token: str, where: str) -> str:
    """Return a token without the white space around it. Raises ConfigError where it cannot be used."""
    token = token.strip()
    if token.startswith("\ufeff"):
        raise ConfigError(f"{where}: starts with a UTF-8 byte order mark (BOM): save it without one")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(f"{where}: a token consists of printable ASCII characters without spaces")
    if ":" in token:
        raise ConfigError(f"{where}: a token cannot contain a colon, because clients take it for user:password")
    if len(token) < SHORTEST:
        raise ConfigError(f"{where}: the token is shorter than {SHORTEST} characters; `openssl rand -hex 32` makes one")
    return token
