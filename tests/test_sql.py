"""All SQL is in one room, and is fixed at development time: values are bound, or quoted by psycopg's `sql`.

Ruff's S608 recognizes a statement by its first word, and misses statements that are composed elsewhere.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT

ROOM = ROOT / "metadata_db"
OTHER_ROOMS = ("admin", "ampd", "ctl", "exporter", "web", "worker")

TAKES_SQL = {"text", "literal_column", "exec_driver_sql", "SQL", "op", "bool_op", "DDL", "copy"}
"""These take SQL text as their first argument."""

EXECUTES = {"execute", "executemany", "scalar", "scalars", "stream", "stream_scalars"}
"""These take SQL text, or a statement that SQLAlchemy or psycopg composes."""

LIBRARIES = {"sqlalchemy", "psycopg", "alembic"}

PUTS_TOGETHER = {"format", "join", "replace", "format_map", "strip", "removeprefix", "encode", "decode", "read_text"}
QUOTES = {"as_string", "as_bytes"}
"""Methods of psycopg's `sql.Composed`, which consists of `SQL`, which is checked, and of quoted parts."""


class Module:
    """A module, and its SQL that is not fixed."""

    def __init__(self, source: str, name: str) -> None:
        self._name = name
        self._tree = ast.parse(source)
        self._parents = {child: node for node in ast.walk(self._tree) for child in ast.iter_child_nodes(node)}

    def complaints(self) -> Iterator[str]:
        literal_strings = self._with_literal_strings()
        for call in (node for node in ast.walk(self._tree) if isinstance(node, ast.Call)):
            name = _called(call)
            for index, argument in enumerate([*call.args, *(keyword.value for keyword in call.keywords)]):
                if (name in TAKES_SQL and index == 0) or (name in literal_strings and index == literal_strings[name]):
                    right = self._is_fixed(argument)
                elif name in EXECUTES and index == 0:
                    right = self._is_statement(argument)
                else:
                    continue
                if not right:
                    yield f"{self._name}:{call.lineno}: {ast.unparse(argument)}"

    def _with_literal_strings(self) -> dict[str, int]:
        """Return the functions with a LiteralString parameter, and the position of the parameter."""
        return LITERAL_STRINGS | {
            function.name: index
            for function in ast.walk(self._tree)
            if isinstance(function, ast.FunctionDef)
            for index, argument in enumerate(function.args.args)
            if _annotation(argument.annotation) == "LiteralString"
        }

    def _is_fixed(self, node: ast.expr) -> bool:  # noqa: PLR0911 - a table
        match node:
            case ast.Constant(value=str() | bytes() | int()):
                return True
            case ast.JoinedStr(values=values):
                return all(
                    self._is_fixed(each.value if isinstance(each, ast.FormattedValue) else each) for each in values
                )
            case ast.BinOp(left=left, right=right):
                return self._is_fixed(left) and self._is_fixed(right)
            case ast.IfExp(body=body, orelse=orelse):
                return self._is_fixed(body) and self._is_fixed(orelse)
            case ast.Call(func=ast.Attribute(attr=attribute)) if attribute in QUOTES:
                return True
            case ast.Name():
                return self._all(node, self._is_fixed)
        return False

    def _is_statement(self, node: ast.expr) -> bool:
        """Whether the expression is fixed SQL, or an object: a call that returns one, or a name of one."""
        match node:
            case ast.Call(func=ast.Attribute(attr=attribute)):
                return attribute not in PUTS_TOGETHER
            case ast.Call(func=ast.Name(id=name)) if name in self._functions():
                function = self._functions()[name]
                returned = [each.value for each in ast.walk(function) if isinstance(each, ast.Return) and each.value]
                return "str" not in _annotation(function.returns) or all(map(self._is_statement, returned))
            case ast.Call(func=ast.Name(id=name)):
                return name not in {"str", "repr", "bytes", "format"}
            case ast.Name():
                return self._all(node, self._is_statement)
        return self._is_fixed(node)

    def _all(self, name: ast.Name, right: Callable[[ast.expr], bool]) -> bool:
        values = self._values(name)
        return bool(values) and all(value is not None and right(value) for value in values)

    def _functions(self) -> dict[str, ast.FunctionDef]:
        return {each.name: each for each in self._tree.body if isinstance(each, ast.FunctionDef)}

    def _values(self, name: ast.Name) -> list[ast.expr | None]:
        """Return the possible values of a name: in its function, else in the enclosing functions, else in the module.

        None stands for an unknown value. A parameter is an object, unless it may be a string.
        """
        scope: ast.AST | None = name
        while scope is not None:
            scope = self._parents.get(scope)
            if isinstance(scope, ast.FunctionDef | ast.Lambda | ast.Module):
                values = self._bound(scope, name.id)
                if values:
                    return values
        return []

    def _bound(self, scope: ast.FunctionDef | ast.Lambda | ast.Module, name: str) -> list[ast.expr | None]:
        values: list[ast.expr | None] = []
        if isinstance(scope, ast.FunctionDef) and scope.name in EXECUTES and name in _names(scope):
            return [ast.Constant("passed on: checked where it is called")]
        if not isinstance(scope, ast.Module):
            values += [_parameter(each) for each in (*scope.args.args, *scope.args.kwonlyargs) if each.arg == name]
        for node in ast.walk(scope):
            match node:
                case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                    values.append(value)
                case ast.AnnAssign(target=ast.Name(id=found), value=value) if found == name:
                    values.append(value)
                case ast.Name(id=found, ctx=ast.Store()) if found == name and not _is_plain(self._parents[node]):
                    values.append(None)
        return values


def _names(function: ast.FunctionDef) -> list[str]:
    return [each.arg for each in function.args.args]


def _is_plain(binding: ast.AST) -> bool:
    return isinstance(binding, ast.AnnAssign) or (isinstance(binding, ast.Assign) and len(binding.targets) == 1)


def _parameter(argument: ast.arg) -> ast.expr | None:
    annotation = _annotation(argument.annotation)
    if annotation == "LiteralString":
        return ast.Constant("checked where it is called")
    may_be_text = not annotation or any(each in annotation for each in ("str", "bytes", "Any", "object"))
    return None if may_be_text else ast.Call(ast.Name("an_object"), [], [])


def _annotation(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


LITERAL_STRINGS = {
    "transaction": 1,
    "_has_key": 0,
    "_info_moment": 0,
    "_info_number": 0,
    "_info_value": 0,
    "_written_moment": 0,
}
"""Functions of another module with a LiteralString parameter, and the position of the parameter."""


def complaints(source: str) -> list[str]:
    return list(Module(source, "here").complaints())


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_all_sql_is_fixed(path: Path) -> None:
    assert list(Module(path.read_text(), str(path.relative_to(ROOT))).complaints()) == []


def speaks_sql(source: str) -> bool:
    """Whether a module of another room could run SQL: it may only use the type of a connection."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names) if any(name.name.partition(".")[0] in LIBRARIES for name in names):
                return True
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] in LIBRARIES:
                if {name.name for name in names} != {"Connection"}:
                    return True
            case ast.Call() if _called(node) in EXECUTES | {"exec_driver_sql"}:
                return True
    return False


@pytest.mark.parametrize("room", OTHER_ROOMS)
def test_no_other_room_uses_sql(room: str) -> None:
    assert [str(path) for path in (ROOT / room).rglob("*.py") if speaks_sql(path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "import psycopg",
        "import sqlalchemy.sql as s",
        "from sqlalchemy import Connection, text",
        "from psycopg.sql import SQL",
        'def f(connection): connection.execute("SELECT 1")',
        'def f(connection): connection.exec_driver_sql("SELECT 1")',
    ],
)
def test_a_room_that_uses_sql_is_detected(source: str) -> None:
    assert speaks_sql(source)


def test_every_function_with_a_literal_string_parameter_is_listed() -> None:
    asking = {
        function.name
        for path in ROOM.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        and any(_annotation(each.annotation) == "LiteralString" for each in function.args.args)
    }
    assert asking == set(LITERAL_STRINGS)


@pytest.mark.parametrize(
    "source",
    [
        'text(f"name = {name}")',
        'def f(name: str): return text(f"name = {name}")',
        'def f(name: str): return text("name = \'%s\'" % name)',
        'def f(name: str): return text("name = " + name)',
        'def f(names): return text("name IN ({})".format(",".join(names)))',
        'def f(name: str): return literal_column(name)',
        'def f(name: str): return column.op(name)(1)',
        'def f(c, name: str): c.exec_driver_sql(f"SELECT {name}")',
        'def f(c, name: str):\n    statement = "SELECT " + name\n    c.exec_driver_sql(statement)',
        'def f(c, name: str):\n    statement = "SELECT 1"\n    statement += name\n    c.exec_driver_sql(statement)',
        'def f(c, names):\n    for name in names:\n        c.exec_driver_sql(name)',
        'def f(session, name: str): session.execute(f"SELECT {name}".encode())',
        'def f(session, name: str): session.execute(f"SELECT {name}")',
        'def f(session, statement: str): session.execute(statement)',
        'def f(session, statement): session.execute(statement)',
        'def f(session, name: str):\n    statement = "SELECT {}".format(name)\n    session.execute(statement)',
        'def g(name: str) -> str: return f"SELECT {name}"\ndef f(session, name: str): session.execute(g(name))',
        'A = "SELECT 1"\ndef f(session, name: str):\n    A = name\n    session.execute(A)',
        'from elsewhere import A\ndef f(session): session.execute(A)',
        'def f(c, how: str): transaction(c, how)',
        'def f(name: str): return sql.SQL("SELECT " + name)',
    ],
)  # fmt: skip
def test_sql_that_is_not_fixed_is_detected(source: str) -> None:
    assert complaints(source) != []


@pytest.mark.parametrize(
    "source",
    [
        'A = "x"\nB = f"SELECT {A}"\ndef f(c): c.exec_driver_sql(B + " FROM y")',
        'def f(c, node_id: str): c.execute("SELECT %s", [node_id])',
        'def f(c, node_id: str): c.execute(select(workers).where(workers.c.node_id == node_id))',
        'def f(c, statement: Select): c.execute(statement)',
        'def f(c, name: str): c.execute(SQL("SELECT {}").format(Identifier(name)).as_string())',
        'def f(c, how: LiteralString): c.exec_driver_sql(how)',
        'def f(result): return result.scalar()',
    ],
)  # fmt: skip
def test_fixed_sql_is_accepted(source: str) -> None:
    assert complaints(source) == []
