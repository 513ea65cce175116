"""Work that is done one piece at a time, and how those who wait for it come to their turn."""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager


class TooManyWaiting(Exception):
    """So many wait that this one has to come again."""


class _Ticket:
    def __init__(self) -> None:
        self.called = threading.Event()
        self.refused = False


class Turns:
    """Gives turns to peers, one after the other, however many requests each of them has waiting."""

    def __init__(self, waiting: int, seconds: float) -> None:
        """waiting: how many requests may wait at a time. seconds: how long each of them may."""
        self._waiting, self._seconds = waiting, seconds
        self._lock = threading.Lock()
        self._busy = False
        self._queues: OrderedDict[str, deque[_Ticket]] = OrderedDict()

    @contextmanager
    def turn(self, peer: str) -> Iterator[None]:
        """Wait for a turn, and have it as long as the block runs.

        Raises:
            TooManyWaiting: it has waited too long, or would have to wait behind too many, or has made room for a peer
                that has fewer waiting.
        """
        ticket = _Ticket()
        with self._lock:
            if self._busy:
                self._enqueue(peer, ticket)
            else:
                self._busy = True
                ticket.called.set()
        self._wait(peer, ticket)
        try:
            yield
        finally:
            with self._lock:
                self._call_next()

    def _enqueue(self, peer: str, ticket: _Ticket) -> None:
        if sum(map(len, self._queues.values())) >= self._waiting:
            largest = max(self._queues, key=lambda each: len(self._queues[each]))
            if len(self._queues.get(peer, ())) + 1 >= len(self._queues[largest]):
                raise TooManyWaiting
            refused = self._queues[largest].pop()
            refused.refused = True
            refused.called.set()
        self._queues.setdefault(peer, deque()).append(ticket)

    def _wait(self, peer: str, ticket: _Ticket) -> None:
        if not ticket.called.wait(self._seconds):
            with self._lock:
                if not ticket.called.is_set():
                    self._take_out(peer, ticket)
                    raise TooManyWaiting
        if ticket.refused:
            raise TooManyWaiting

    def _take_out(self, peer: str, ticket: _Ticket) -> None:
        self._queues[peer].remove(ticket)
        if not self._queues[peer]:
            del self._queues[peer]

    def _call_next(self) -> None:
        if not self._queues:
            self._busy = False
            return
        # Whoever has had a turn comes last, with what else it has waiting.
        peer, queue = self._queues.popitem(last=False)
        queue.popleft().called.set()
        if queue:
            self._queues[peer] = queue
