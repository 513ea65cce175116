"""Bulkheads: threads for one kind of work, which no other kind can use up."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

from werkzeug.exceptions import ServiceUnavailable

Result = TypeVar("Result")


class QueueFull(ServiceUnavailable):
    """Too many requests of a peer wait for a thread, or this one has waited too long. The client should retry."""

    description = "too many requests wait for the metadata DB, or for slow clients"

    def __init__(self) -> None:
        super().__init__(retry_after=1)


class Bulkhead:
    """A pool of threads behind a bounded queue, in one event loop.

    Queueing is fair: peers take turns, however many requests each of them has waiting. One request of each peer waits
    for a thread, and the peer's others wait for their turn to do so.
    """

    def __init__(self, name: str, threads: int, max_waiting: int, max_wait_seconds: float = 5.0) -> None:
        """max_waiting: requests of all peers together, of which each peer has an equal share."""
        self._executor, self._idle = ThreadPoolExecutor(threads, name), asyncio.Semaphore(threads)
        self._max_waiting, self._max_wait_seconds = max_waiting, max_wait_seconds
        self._waiting = Counter[str]()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, peer: str, call: Callable[[], Result]) -> Result:
        """Run a function in one of the threads. Raises QueueFull."""
        if self._waiting[peer] >= max(1, self._max_waiting // len({*self._waiting, peer})):
            raise QueueFull
        self._waiting[peer] += 1
        try:
            async with asyncio.timeout(self._max_wait_seconds), self._turns.setdefault(peer, asyncio.Lock()):
                await self._idle.acquire()
        except TimeoutError:
            raise QueueFull from None
        finally:
            self._waiting -= Counter([peer])
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._idle.release()
