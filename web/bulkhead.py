"""Bulkheads: threads for one kind of work, which no other kind can use up."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

_MAX_WAIT_SECONDS = 5.0


class QueueFull(Exception):
    """Too many requests of a peer wait for a thread, or this one has waited too long. The client should retry."""


class Bulkhead:
    """A pool of threads behind a bounded queue, in one event loop.

    Queueing is fair: peers take turns, however many requests each of them has waiting.
    """

    def __init__(self, name: str, threads: int, max_waiting: int, max_wait_seconds: float = _MAX_WAIT_SECONDS) -> None:
        """max_waiting: requests of all peers together, of which each peer has an equal share."""
        self._executor = ThreadPoolExecutor(threads, name)
        self._idle = threads
        self._max_waiting, self._max_wait_seconds = max_waiting, max_wait_seconds
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(self, peer: str, call: Callable[[], Result]) -> Result:
        """Run a function in one of the threads. Raises QueueFull."""
        await self._wait_for_thread(peer)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._release()

    async def _wait_for_thread(self, peer: str) -> None:
        queue = self._queues.setdefault(peer, deque())
        if len(queue) >= max(1, self._max_waiting // len(self._queues)):
            raise QueueFull
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._start_next()
        try:
            async with asyncio.timeout(self._max_wait_seconds):
                await turn
        except BaseException as error:
            if not turn.cancelled():  # it got a thread at the same moment
                self._release()
            elif turn in queue:
                queue.remove(turn)
                if not queue:
                    del self._queues[peer]
            if isinstance(error, TimeoutError):
                raise QueueFull from None
            raise

    def _release(self) -> None:
        self._idle += 1
        self._start_next()

    def _start_next(self) -> None:
        while self._idle and self._queues:
            peer = next(iter(self._queues))
            queue = self._queues.pop(peer)
            turn = queue.popleft()
            if queue:
                self._queues[peer] = queue  # last in the order of turns
            if not turn.done():  # a request that no longer waits has a cancelled turn
                self._idle -= 1
                turn.set_result(None)
