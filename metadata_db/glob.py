"""Globs as patterns of SQL's LIKE."""

from collections.abc import Collection

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
