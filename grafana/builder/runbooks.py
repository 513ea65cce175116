"""The runbooks as one page for a browser: a server that has the Markdown files offers them as a download."""

import re
from pathlib import Path, PurePosixPath

from markdown_it import MarkdownIt
from markdown_it.token import Token

from grafana.builder.alerts import ALERTS

_PAGE = """<!doctype html>
<!-- Made by python -m grafana.builder: change the Markdown files, not this one. -->
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Amp runbooks</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 0 1rem 50vh; }}
section + section {{ border-top: 1px solid; margin-top: 4rem; }}
pre {{ padding: 0.75rem; overflow-x: auto; background: #8882; }}
code {{ font: 14px/1.4 ui-monospace, monospace; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ border: 1px solid #8888; padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; }}
</style>
{sections}
</html>
"""


def runbooks_page(directory: Path) -> str:
    """Return the page: the overview, then each alert's runbook, with the alert's name as its anchor."""
    names = ["README", *(alert.name for alert in ALERTS)]
    sections = (_section(name, (directory / f"{name}.md").read_text(), names) for name in names)
    return _PAGE.format(sections="\n".join(sections))


def _section(name: str, text: str, names: list[str]) -> str:
    markdown = MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(text)
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(name, "" if token.tag == "h1" else _slug(tokens[number + 1].content)))
        token.children = _without_outer_links(token.children, name, names)
    return f"<section>\n{markdown.renderer.render(tokens, markdown.options, {})}</section>"


def _without_outer_links(children: list[Token] | None, name: str, names: list[str]) -> list[Token] | None:
    """Point the links between runbooks into the page, and name the other files: no server has them beside it."""
    if children is None:
        return None
    kept: list[Token] = []
    outer: str | None = None
    for token in children:
        if token.type == "link_open":
            path, _, heading = str(token.attrGet("href")).partition("#")
            target = PurePosixPath(path).stem if path else name
            if "://" in path or (target in names and "/" not in path):
                token.attrSet("href", f"{path}#{heading}" if "://" in path else f"#{_anchor(target, heading)}")
            else:
                outer = str(PurePosixPath("docs") / path.removeprefix("../")).replace("docs/../", "")
                continue
        if token.type == "link_close" and outer is not None:
            kept.append(Token("text", "", 0, content=f" ({outer})"))
            outer = None
        else:
            kept.append(token)
    return kept


def _anchor(name: str, heading: str) -> str:
    return f"{name}-{heading}" if heading else name


def _slug(heading: str) -> str:
    """Return the anchor that a Markdown viewer gives to a heading."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
