"""docs/troubleshooting.md has every warning and error that `ampd` logs, and every error of the metadata DB."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.processes import ROOT

ROOMS = ("ampd", "admin", "exporter", "worker", "metadata_db", "web")
LOGGED = {"warning", "error", "exception"}
RAISED = {"MetadataDbError", "UnfitSchema", "EmbeddedPostgresError", "AmpDatabaseRefused", "NodeIdTaken", "FencedOut"}
SHORTEST = 12
"""A shorter clause does not identify a message."""


def messages() -> Iterator[tuple[str, ...]]:
    """Yield the clauses of each message, except for messages that only repeat the text of another message."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _shows_its_arguments(node.func):
                    for argument in node.args:
                        clauses = tuple(clause for clause in _clauses(argument) if len(clause) >= SHORTEST)
                        if clauses:
                            yield clauses


def _shows_its_arguments(function: ast.expr) -> bool:
    match function:
        case ast.Attribute(attr=name):
            return name in LOGGED
        case ast.Name(id=name):
            return name in RAISED
    return False


def _clauses(argument: ast.expr) -> list[str]:
    match argument:
        case ast.Constant(value=str(text)):
            parts = re.split(r"%[-.\d]*[a-z]", text)
        case ast.JoinedStr(values=values):
            parts = [str(part.value) for part in values if isinstance(part, ast.Constant)]
        case _:
            parts = []
    return [clause.strip(" .,'\"") for part in parts for clause in re.split(r"[:;,()]", part)]


@pytest.mark.parametrize("clauses", sorted(set(messages())), ids=lambda clauses: clauses[0])
def test_the_page_has_the_message(clauses: tuple[str, ...]) -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert any(clause in page for clause in clauses), "add a row: message, cause, what to do"
