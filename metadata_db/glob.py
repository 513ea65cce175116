"""Globs: as patterns of SQL's LIKE, and as regular expressions for texts that were read before."""

import re
from collections.abc import Callable, Collection

from sqlalchemy import ColumnElement, or_


def is_glob(text: str) -> bool:
    return "*" in text or "?" in text


def matches_any(column: ColumnElement[str], globs: Collection[str]) -> ColumnElement[bool]:
    """Return whether a text is matched as a whole by one of the globs: `*` is any text, `?` is one character."""
    # LIKE needs a deterministic collation before PostgreSQL 18; an equality can use an index.
    return or_(
        *(column.collate("C").like(_like(glob), escape="\\") if is_glob(glob) else column == glob for glob in globs)
    )


def _like(glob: str) -> str:
    escaped = glob.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return escaped.replace("*", "%").replace("?", "_")


def text_matcher(globs: Collection[str]) -> Callable[[str], object]:
    """Return what `matches_any` is in SQL, for texts that were read before: a function that is true for a match."""
    return re.compile("|".join(map(_regular_expression, globs)), re.DOTALL).fullmatch


def _regular_expression(glob: str) -> str:
    first, *rest = (".".join(map(re.escape, piece.split("?"))) for piece in glob.split("*"))
    if not rest:
        return first
    # Atomic groups: each piece between two asterisks is matched as early as possible, and never again. Backtracking
    # would take minutes for a glob with many asterisks.
    return first + "".join(f"(?>.*?{piece})" for piece in rest[:-1]) + f".*{rest[-1]}"
