"""Passwords held against bcrypt hashes, without becoming a way to keep the processor busy."""

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress

import bcrypt

from amp_workers.web.turns import TooManyWaiting, Turns

AT_IT = 17
"""How many requests may be at it: one computes, the others wait, each with a thread of the server's."""

_PATIENCE_SECONDS = 5.0
_REMEMBERED = 256

_SIGNIFICANT_BYTES = 72
"""bcrypt has no use for more, and the library refuses what others pass over."""


class TooManyAttempts(Exception):
    """So many passwords are being verified that this one has to come again."""


class Passwords:
    """Verifies passwords, one at a time, and remembers those that were right."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = Turns(AT_IT - 1, _PATIENCE_SECONDS)

    def admit(self, users: Mapping[str, bytes], name: str, password: str, peer: str = "") -> bool:
        """Tell whether a user has that password. Whatever is wrong takes the same time: a password of anybody's,
        however cheap the hash, or a name that nobody has.

        peer: who asks. Those who ask little wait for nobody who asks much.

        Raises:
            TooManyAttempts: it would have to wait for too many others, or has for too long.
        """
        hashed = users.get(name)
        key = self._key(name, hashed or b"", password)
        with self._lock:
            if key in self._right:
                self._right.move_to_end(key)
                return True
        try:
            with self._turns.turn(peer):
                same = _verify(password.encode()[:_SIGNIFICANT_BYTES], hashed, max(map(_cost, users.values())))
        except TooManyWaiting:
            raise TooManyAttempts from None
        if not same:
            return False
        with self._lock:
            self._right[key] = None
            if len(self._right) > _REMEMBERED:
                self._right.popitem(last=False)
        return True

    def _key(self, *parts: str | bytes) -> bytes:
        """A keyed hash: what is remembered tells nobody a password."""
        mac = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in parts:
            data = part if isinstance(part, bytes) else part.encode()
            mac.update(len(data).to_bytes(8, "big") + data)
        return mac.digest()


def _cost(hashed: bytes) -> int:
    return int(hashed.split(b"$")[2])


def _verify(password: bytes, hashed: bytes | None, highest_cost: int) -> bool:
    """Hold a password against a hash, or against none; a wrong one takes as long as at the highest cost."""
    if hashed is None:
        _spend(password, highest_cost)
        return False
    if _same(password, hashed):
        return True
    # Each cost takes twice as long as the one before: n, n, n + 1, … m - 1 take as long as m.
    for cost in range(_cost(hashed), highest_cost):
        _spend(password, cost)
    return False


def _same(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:  # a salt, say, whose last bits nobody could have written
        return False


def _spend(password: bytes, cost: int) -> None:
    with suppress(ValueError):
        bcrypt.hashpw(password, b"$2b$%02d$" % cost + b"." * 22)
