"""Whether the tests that are found are run."""

from collections import Counter

import pytest


def test_no_two_tests_have_one_id(request: pytest.FixtureRequest) -> None:
    """pytest-xdist would run one of them, and say of the others neither that they passed nor that they did not."""
    times = Counter(item.nodeid for item in request.session.items)
    assert [node_id for node_id, number in times.items() if number > 1] == []
