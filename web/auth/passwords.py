"""Verifies passwords against bcrypt hashes, without a way for attackers to keep the processor busy."""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import bcrypt

from amp_workers.web.auth.fair_queue import FairQueue

_MAX_WAITING = 64
_MAX_WAIT_SECONDS = 5.0
_REMEMBERED = 256

_SIGNIFICANT_BYTES = 72
"""bcrypt ignores the rest, and the library refuses what other implementations cut off."""


class Passwords:
    """Verifies one password at a time, and remembers those that were right."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._right: dict[bytes, None] = {}
        self._queue = FairQueue(_MAX_WAITING, _MAX_WAIT_SECONDS)
        self._executor = ThreadPoolExecutor(1, "password")

    async def verify(self, users: Mapping[str, bytes], name: str, password: str, peer: str) -> bool:
        """Return whether a user has that password. peer: who sent the request; peers take turns.

        A wrong attempt takes the same time whatever is wrong: the password of a user, however cheap the hash, or the
        name. Raises QueueFull where too many requests wait for a verification.
        """
        hashed = users.get(name)
        # A keyed hash: the memory of the process reveals no password that was right.
        key = hashlib.blake2b(repr((name, hashed, password)).encode(), key=self._secret).digest()
        if key not in self._right:
            significant = password.encode()[:_SIGNIFICANT_BYTES]
            highest_cost = max(map(_cost, users.values()))
            async with self._queue.turn(peer):
                loop = asyncio.get_running_loop()
                if not await loop.run_in_executor(self._executor, verify, significant, hashed, highest_cost):
                    return False
        self._right.pop(key, None)
        self._right[key] = None  # the latest comes last
        if len(self._right) > _REMEMBERED:
            del self._right[next(iter(self._right))]
        return True


def _cost(hashed: bytes) -> int:
    return int(hashed.split(b"$")[2])


def verify(password: bytes, hashed: bytes | None, highest_cost: int) -> bool:
    """Compare a password with a hash, or with none; a wrong one takes as long as at the highest cost."""
    if hashed is None:
        _spend(password, highest_cost)
        return False
    with suppress(ValueError):  # of the library: for example a salt with last bits that no implementation writes
        if bcrypt.checkpw(password, hashed):
            return True
    # Each cost takes twice as long as the one before: n, n, n + 1, … m - 1 take as long as m.
    for cost in range(_cost(hashed), highest_cost):
        _spend(password, cost)
    return False


def _spend(password: bytes, cost: int) -> None:
    with suppress(ValueError):
        bcrypt.hashpw(password, b"$2b$%02d$" % cost + b"." * 22)
