"""Globs, as the API has them: `*` is any text, `?` is one character."""

import re
from collections.abc import Callable, Collection


def glob_matcher(globs: Collection[str]) -> Callable[[str], object]:
    """Return a function that matches a text against globs; no globs match any text."""
    if not globs:
        return bool
    patterns = (re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".") for glob in globs)
    return re.compile("|".join(patterns), re.DOTALL).fullmatch
