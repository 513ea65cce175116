"""Fair queueing of requests for threads."""

import asyncio
import threading

import pytest

from amp_workers.web.bulkhead import Bulkhead, QueueFull


class Busy:
    """A bulkhead whose only thread is busy until `end` is called."""

    def __init__(self, max_waiting: int, max_wait_seconds: float = 20) -> None:
        self._may_end = threading.Event()
        self.bulkhead = Bulkhead("test", 1, max_waiting, max_wait_seconds)
        self.first = asyncio.ensure_future(self.bulkhead.run("first", self._may_end.wait))

    def end(self) -> None:
        self._may_end.set()


def test_peers_take_turns_and_each_has_its_share_of_the_queue() -> None:
    async def take_turns() -> list[str]:
        busy, log = Busy(max_waiting=4), list[str]()

        async def run(peer: str, name: str) -> None:
            try:
                await busy.bulkhead.run(peer, lambda: log.append(name))
            except QueueFull:
                log.append(f"not {name}")

        await asyncio.sleep(0)
        tasks = [asyncio.ensure_future(run("a", f"a{n}")) for n in range(5)]
        await asyncio.sleep(0)
        assert log == ["not a4"]
        tasks += [asyncio.ensure_future(run("b", f"b{n}")) for n in range(3)]
        await asyncio.sleep(0)
        assert log == ["not a4", "not b2"]
        busy.end()
        await asyncio.gather(busy.first, *tasks)
        return log[2:]

    assert asyncio.run(take_turns()) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_a_thread_is_free_again_however_its_request_ends() -> None:
    async def runs() -> None:
        busy = Busy(max_waiting=2, max_wait_seconds=0.1)
        await asyncio.sleep(0)
        cancelled = asyncio.ensure_future(busy.bulkhead.run("b", int))
        late = [asyncio.ensure_future(busy.bulkhead.run(peer, int)) for peer in "cd"]
        await asyncio.sleep(0)
        cancelled.cancel()
        for error in await asyncio.gather(*late, return_exceptions=True):
            assert isinstance(error, QueueFull)
        busy.end()
        await busy.first
        with pytest.raises(ZeroDivisionError):
            await busy.bulkhead.run("b", lambda: 1 // 0)
        assert await busy.bulkhead.run("b", int) == 0

    asyncio.run(runs())
