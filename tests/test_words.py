"""Texts use the field's terms: phrases that readers stumbled over stay out of all files."""

import re

import pytest

from tests.processes import ROOT, run

TERMS = {
    r"asks nobody": "no authentication is configured",
    r"there is nothing at": "not found",
    r"is no url": "invalid URL",
    r"does not beat": "sends no heartbeats",
    r"come back by itself": "recover without intervention",
    r"an old value would be a lie": "stale values would be misleading",
    r"start again whose": "restart those whose backoff has expired",
    r"starting it again": "restarting it",
    r"taken_away": "removed",
    r"\btells\b": "reports, returns, shows",
    r"\b(is|are|was|be|being) told\b": "is logged, receives, is reported",
    r"\bwhoever\b": "a client, a caller, a process",
    r"\b(is|are) away\b": "is unavailable",
    r"\b(is|are) back\b": "is available again",
    r"\blearns?\b": "reads, receives",
    r"\bsays so\b": "is logged, is reported, returns",
}
"""Patterns, and what to write in their place."""

TERMS_OF_PAGES = {
    r"\bbeats?\b": "heartbeat, sends a heartbeat",
    r"\brings?\b": "fires, notifies",
    r"\brang\b": "fired",
    r"\btold\b": "reported",
    r"\b(any|some)body\b": "a client, a person, a program",
    r"\bhardly\b": "unlikely",
}
"""The same for pages: in code, these are also names."""

NOT_READ = {"CHANGELOG.md", "LICENSE", "tests/test_words.py"}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The committed files, each in one line of lower case, because a phrase may span a line break."""
    names = run("git", "ls-files", cwd=ROOT).stdout.splitlines()
    assert "README.md" in names
    files = {name: ROOT / name for name in names if name not in NOT_READ}
    return {
        name: " ".join(path.read_text(errors="replace").lower().split())
        for name, path in files.items()
        if path.is_file()
    }


@pytest.mark.parametrize("pattern", TERMS)
def test_no_file_contains_the_phrase(texts: dict[str, str], pattern: str) -> None:
    found = [name for name, text in texts.items() if re.search(pattern, text)]
    assert not found, f"'{pattern}' is in {', '.join(found)}; write '{TERMS[pattern]}' or rephrase the sentence"


@pytest.mark.parametrize("pattern", TERMS_OF_PAGES)
def test_no_page_contains_the_phrase(texts: dict[str, str], pattern: str) -> None:
    found = [name for name, text in texts.items() if name.endswith(".md") and re.search(pattern, text)]
    assert not found, (
        f"'{pattern}' is in {', '.join(found)}; write '{TERMS_OF_PAGES[pattern]}' or rephrase the sentence"
    )
