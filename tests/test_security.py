"""docs/security.md names each dependency, with a reason, and no others."""

import re
import tomllib

import pytest

from tests.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["solo"]]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~!; ]", requirement.lower())[0] for requirement in requirements}


def rows(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table that begins with a column of this name."""
    table = DOCUMENT.partition(f"| {heading} |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: rest for name, *rest in cells}


@pytest.mark.parametrize(
    ("heading", "requirements"),
    [("to run", RUN), ("to test and to build", PROJECT["optional-dependencies"]["test"])],
)
def test_every_dependency_has_a_reason_and_a_keeper(heading: str, requirements: list[str]) -> None:
    documented = rows(heading)
    missing, needless = named(requirements) - documented.keys(), documented.keys() - named(requirements)
    assert not missing, f"docs/security.md, table «{heading}»: add a row, with reason and keeper, for {missing}"
    assert not needless, f"docs/security.md, table «{heading}»: pyproject.toml does not name {needless} any more"
    assert all(len(row) == 2 and all(row) for row in documented.values())


def test_every_dependency_is_pinned() -> None:
    pins = named((ROOT / "constraints.txt").read_text().lower().replace("_", "-").splitlines())
    wanted = named([*RUN, *PROJECT["optional-dependencies"]["test"]])
    assert wanted <= pins
