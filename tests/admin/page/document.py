"""A page as a browser without JavaScript shows it: its elements and their texts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Self
from urllib.parse import unquote

_VOID = {"meta", "link", "input", "path", "circle", "rect", "br"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its text, in one line."""
        pieces = (each if isinstance(each, str) else each.text for each in self.children)
        return " ".join("".join(pieces).split())

    def find(self, tag: str = "", **attributes: str) -> list[Self]:
        """The descendants with a tag and attributes: `find("td", class_="state")`."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [each for each in self._all() if tag in {"", each.tag} and wanted.items() <= each.attributes.items()]

    def one(self, tag: str = "", **attributes: str) -> Self:
        (found,) = self.find(tag, **attributes)
        return found

    def _all(self) -> Iterator[Self]:
        for child in self.children:
            if isinstance(child, type(self)):
                yield child
                yield from child._all()


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open.pop().tag == tag, f"</{tag}> ends another element"

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == [self.root], "an element has no end"


def parse(text: str) -> Element:
    """Parse a page. Each element must have an end tag."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    return builder.root


def rows(page: Element) -> list[dict[str, str]]:
    """The cells of each worker's row, by the class of the cell."""
    bodies = page.find("tbody")
    cells = [row.find("td") for body in bodies for row in body.find("tr")]
    return [{cell.attributes["class"]: cell.text for cell in row} for row in cells if len(row) > 1]


def node_ids(page: Element) -> list[str]:
    return [row["node_id"] for row in rows(page)]


def counts(page: Element) -> dict[str, str]:
    """The count that the page shows for each state."""
    filters = [each.attributes for each in page.find("a", class_="filter")]
    return {each["data-state"]: each["data-count"] for each in filters if "data-state" in each}


def links(page: Element) -> list[str]:
    return [unquote(each.attributes["href"]) for each in page.find("a")]
