"""Who gets a place when one becomes free, and who is refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from amp_workers.web import places
from amp_workers.web.places import _Places
from tests.processes import eventually


def test_a_place_that_becomes_free_is_of_who_has_waited_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "WAITING", 2)
    one = _Places(1)
    assert one.take()
    with ThreadPoolExecutor(3) as many:
        first = many.submit(one.take)
        eventually(lambda: len(one._waiting) == 1)
        second = many.submit(one.take)
        eventually(lambda: len(one._waiting) == 2)
        assert not one.take(), "so many may wait, and no more"
        one.give()
        # It makes room at once, and who comes now waits behind.
        third = many.submit(one.take)
        eventually(lambda: len(one._waiting) == 2)
        assert first.result(20)
        assert not second.done()
        for waiting in (second, third):
            one.give()
            assert waiting.result(20)
    one.give()
    assert one.take()


def test_who_waited_in_vain_keeps_no_place_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_PATIENCE_SECONDS", 0.01)
    one = _Places(1)
    assert one.take()
    assert not one.take()
    assert not one._waiting
    one.give()
    assert one.take()
