"""Suggestions for mistyped words."""

from collections.abc import Iterable

_LIKE = 0.6
"""The least similarity of a suggestion: the default of Python's `difflib.get_close_matches`."""


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return a sentence to add to an error; empty if no known word is similar to the text."""
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(b=text)
    meant, bar = None, _LIKE
    for each in known:
        matcher.set_seq1(each)
        # Cheap upper bounds first. The bar rises with each match: a large fleet's node ids are similar to each other.
        if matcher.real_quick_ratio() >= bar and matcher.quick_ratio() >= bar and (ratio := matcher.ratio()) >= bar:
            meant, bar = each, ratio
    return "" if meant is None else f" Did you mean {meant!r}?"
