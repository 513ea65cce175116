"""All collected tests run."""

from collections import Counter

import pytest


def test_no_two_tests_have_one_id(request: pytest.FixtureRequest) -> None:
    """pytest-xdist would run one of them, and would not report the result of the others."""
    times = Counter(item.nodeid for item in request.session.items)
    assert [node_id for node_id, number in times.items() if number > 1] == []
