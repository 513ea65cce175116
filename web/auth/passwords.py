"""Verification of passwords against bcrypt hashes, bounded so that clients cannot keep the processor busy."""

import hashlib
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from amp_workers.web.bulkhead import Bulkhead

_MAX_WAITING = 64
_REMEMBERED = 256

_SIGNIFICANT_BYTES = 72
"""bcrypt ignores the rest, and the library refuses what other implementations cut off."""


class Passwords:
    """Verifies one password at a time, and remembers the correct ones."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._correct = set[bytes]()
        self._bulkhead = Bulkhead("password", 1, _MAX_WAITING)

    async def verify(self, users: Mapping[str, bytes], name: str, password: str, peer: str) -> bool:
        """Return whether a user has that password. peer: the sender of the request; peers take turns.

        A wrong attempt takes the same time whatever is wrong: the password of a user, however cheap the hash, or the
        name. Raises QueueFull where too many requests wait for a verification.
        """
        hashed = users.get(name)
        # A keyed hash: the memory of the process reveals no correct password.
        key = hashlib.blake2b(repr((name, hashed, password)).encode(), key=self._secret).digest()
        if key not in self._correct:
            significant = password.encode()[:_SIGNIFICANT_BYTES]
            highest_cost = max(map(_cost, users.values()))
            if not await self._bulkhead.run(peer, partial(verify, significant, hashed, highest_cost)):
                return False
            if len(self._correct) >= _REMEMBERED:
                self._correct.clear()
            self._correct.add(key)
        return True


def verify(password: bytes, hashed: bytes | None, highest_cost: int) -> bool:
    """Compare a password with a hash, or with none. A wrong one takes as long as at the highest cost."""
    import bcrypt  # 3 MB, which a server without users does not need

    with suppress(ValueError):  # of the library: for example a salt with last bits that no implementation writes
        if hashed is not None and bcrypt.checkpw(password, hashed):
            return True
    # Each cost takes twice as long as the one before: n, n, n + 1, … m - 1 take as long as m.
    for cost in [highest_cost] if hashed is None else range(_cost(hashed), highest_cost):
        with suppress(ValueError):
            bcrypt.hashpw(password, b"$2b$%02d$" % cost + b"." * 22)
    return False


def _cost(hashed: bytes) -> int:
    return int(hashed.split(b"$")[2])
