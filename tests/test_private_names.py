"""The product uses no private names of libraries, including Python's own."""

import ast
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import amp_workers
from tests.processes import ROOT

ROOMS = ("admin", "ampd", "ctl", "exporter", "metadata_db", "web", "worker", "grafana")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

PUBLIC = {"os._exit", "_typeshed.ReadableBuffer"}
"""These are documented, in spite of their names. The second one exists for type checkers only."""

NAMED_TUPLES = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}
"""Public in each named tuple: the underscore distinguishes them from field names."""


def is_private(name: str) -> bool:
    is_special = name.startswith("__") and name.endswith("__")
    return name.startswith("_") and not is_special and name not in {"_", *NAMED_TUPLES}


def own_names() -> set[str]:
    """Return the private names that the product defines: functions, classes, methods, variables, attributes."""
    names: set[str] = set()
    for node in (node for path in FILES for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in names if is_private(name)}


OWN = own_names()


def foreign_private_names(tree: ast.AST) -> Iterator[str]:
    """Return the private names of libraries that a module uses."""
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            yield from (alias.name for alias in node.names if any(map(is_private, alias.name.split("."))))
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("amp_workers"):
            imported |= {alias.asname or alias.name for alias in node.names}
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if any(map(is_private, name.split("."))))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            is_of_a_library = isinstance(node.value, ast.Name) and node.value.id in imported
            if is_of_a_library or node.attr not in OWN:
                yield ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_uses_a_private_name_of_a_library(path: Path) -> None:
    assert set(foreign_private_names(ast.parse(path.read_text()))) <= PUBLIC


def test_private_names_of_libraries_are_found() -> None:
    text = (
        "import asyncio\nfrom granian._granian import Worker\nasyncio.sslproto._Protocol\nasyncio._x\nvalue._odd_name\n"
    )
    found = set(foreign_private_names(ast.parse(text)))
    assert found == {"granian._granian.Worker", "asyncio.sslproto._Protocol", "asyncio._x", "value._odd_name"}


def product_classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(amp_workers.__path__, "amp_workers."):
        if module.name.endswith("__main__") or ".migrations" in module.name:
            continue
        for _, found in inspect.getmembers(import_module(module.name), inspect.isclass):
            if found.__module__.startswith("amp_workers."):
                yield found


def test_no_class_replaces_a_private_name_of_a_base_class() -> None:
    for own in product_classes():
        for base in own.__mro__[1:]:
            if base.__module__.startswith("amp_workers."):
                continue
            both = vars(own).keys() & vars(base).keys() & OWN  # Python adds these names to classes
            assert not both, f"{own}: {both} of {base}"
