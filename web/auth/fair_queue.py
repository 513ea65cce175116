"""Work that is done one piece at a time, with fair queueing among peers."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class QueueFull(Exception):
    """Too many requests of this peer wait, or this one has waited for too long: its client should retry."""


class FairQueue:
    """Gives turns to peers, one after the other, however many requests each of them has waiting, in one event loop."""

    def __init__(self, waiting: int, seconds: float) -> None:
        """waiting: how many requests may wait at a time; of a peer, its fair share. seconds: how long each may."""
        self._waiting, self._seconds = waiting, seconds
        self._busy = False
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, peer: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it as long as the block runs; raises QueueFull."""
        if self._busy:
            await self._wait(peer)
        self._busy = True
        try:
            yield
        finally:
            self._call_next()

    async def _wait(self, peer: str) -> None:
        queue = self._queues.get(peer, deque())
        if len(queue) >= max(1, self._waiting // len(self._queues.keys() | {peer})):
            raise QueueFull
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._queues.setdefault(peer, queue)
        try:
            async with asyncio.timeout(self._seconds):
                await turn
        except BaseException as error:
            if not turn.cancelled():  # its turn came at the same moment
                self._call_next()
            elif turn in queue:
                queue.remove(turn)
                if not queue:
                    del self._queues[peer]
            if isinstance(error, TimeoutError):
                raise QueueFull from None
            raise

    def _call_next(self) -> None:
        while self._queues:
            # A peer that has had a turn comes last, with its other requests.
            peer, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[peer] = queue
            if not turn.done():  # its request does not wait any more
                turn.set_result(None)
                return
        self._busy = False
