"""All collected tests run."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.processes import ROOT


def test_no_two_tests_have_one_id(request: pytest.FixtureRequest) -> None:
    """pytest-xdist would run one of them, and would not report the result of the others."""
    times = Counter(item.nodeid for item in request.session.items)
    assert [node_id for node_id, number in times.items() if number > 1] == []


@pytest.mark.parametrize("file", sorted(ROOT.glob("tests/**/test_*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_each_file_has_a_test(file: Path) -> None:
    """pytest says nothing of a file without one, for example one whose end was lost."""
    functions = [node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    assert any(name.startswith("test_") for name in functions)
