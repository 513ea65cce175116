"""Texts use the field's terms: phrases that readers stumbled over stay out of all files."""

import pytest

from tests.processes import ROOT, run

TERMS = {
    "asks nobody": "no authentication is configured",
    "there is nothing at": "not found",
    "tells what there is": "lists the available endpoints",
    "is no URL": "invalid URL",
    "whoever has more": "a caller with a longer timeout",
    "does not beat": "sends no heartbeats",
    "come back by itself": "recover without intervention",
    "an old value would be a lie": "stale values would be misleading",
    "start again whose": "restart those whose backoff has expired",
    "starting it again": "restarting it",
    "taken_away": "removed",
}
"""Phrases, and what to write in their place."""

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


@pytest.mark.parametrize("phrase", TERMS)
def test_no_file_contains_the_phrase(texts: dict[str, str], phrase: str) -> None:
    found = [name for name, text in texts.items() if phrase.lower() in text]
    assert not found, f"'{phrase}' is in {', '.join(found)}; write '{TERMS[phrase]}' or rephrase the sentence"
