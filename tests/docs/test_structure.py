"""The pages: their first sentence, the index, links, anchors, and the commands of the Makefile that they name."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, anchors, name
from tests.processes import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"

each_page = pytest.mark.parametrize("page", PAGES, ids=name)


@each_page
def test_the_links_of_a_page_have_targets(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: no file {link}"
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: no heading {link}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=name)
def test_a_page_begins_with_what_its_reader_can_do_after_it(page: Path) -> None:
    assert re.match(r"# .+\n\nAfter reading this page, you (can|know) ", page.read_text())


def test_the_index_has_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text()))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"README.md"}


def test_the_readme_has_at_most_900_words() -> None:
    assert len(README.read_text().split()) <= 900


@each_page
def test_each_make_target_in_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(r"(?:^|`)make ([a-z][\w.-]*)(?=`|$| +#| [A-Z])", page.read_text(), re.M)
    assert set(named) <= targets


def test_the_files_that_contributing_names_exist() -> None:
    """`NAME` is a placeholder for the reader's own name."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = set(re.findall(r"`((?:\.?\w+/)+[\w.]+)`", text)) | set(re.findall(r"\btests/\w+/\w+\.py", text))
    assert len(paths) > 15
    assert {path for path in paths if not (ROOT / path).exists() and "NAME" not in path} - {".tools/"} == set()
