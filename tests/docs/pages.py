"""The pages of the documentation, and their code blocks.

A comment in the line above a block states how the block is run, if the rule for its language does not apply:

    <!-- run by tests/e2e/test_amp.py -->
    <!-- not run: needs Docker -->
"""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.processes import ROOT

PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "grafana/**/*.md")
    for page in ROOT.glob(pattern)
    if ".venv" not in page.parts
)

RUNBOOKS = ROOT / "docs" / "runbooks"

_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>[^>\n]+) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block. `mark` is the text of the comment above it, or empty."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> list[Block]:
    """Return the blocks in these languages, of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("language")) + 1
            block = Block(name(page), line, match["language"], match["mark"] or "", dedent(match["text"]))
            if block.language in languages:
                found.append(block)
    return found


def blocks_run_by(test_file: str, page: str) -> list[str]:
    """Return the texts of a page's blocks whose comment names a test file."""
    mark = f"run by {Path(test_file).relative_to(ROOT).as_posix()}"
    return [block.text for block in blocks("sh") if (block.mark, block.page) == (mark, page)]


def headings(page: Path) -> list[str]:
    """Return the headings of a page, without those inside blocks."""
    return re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub creates for the headings of a page."""
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings(page)}
