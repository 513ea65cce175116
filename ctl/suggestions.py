"""What somebody may have meant who mistyped."""

from collections.abc import Iterable

_LIKE = 0.6
"""What is less like the text than that was not meant: the bar of Python's `difflib.get_close_matches`."""


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return a sentence to add to an error; empty if nothing is like the text."""
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(b=text)
    meant, bar = None, _LIKE
    for each in known:
        matcher.set_seq1(each)
        # Cheap upper bounds first. The bar rises with what is found: a large fleet's node ids are all alike.
        if matcher.real_quick_ratio() >= bar and matcher.quick_ratio() >= bar and (ratio := matcher.ratio()) >= bar:
            meant, bar = each, ratio
    return "" if meant is None else f" Did you mean {meant!r}?"
