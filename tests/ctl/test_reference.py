"""`--help` of every command, and docs/ampctl.md, which is generated from it."""

from collections.abc import Iterator

import click
import pytest

from amp_workers.ctl.cli import ampctl
from amp_workers.ctl.reference import COLUMNS, PATH, reference
from tests.processes import run_ampctl


def test_the_committed_file_is_what_help_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # The output does not depend on a terminal.
    assert PATH.read_text() == reference(), "run: .venv/bin/python -m amp_workers.ctl.reference"


def commands(group: click.Group = ampctl, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands()), ids=lambda path: " ".join(path) or "ampctl")
def test_each_command_has_help_with_an_example_and_is_in_the_file(path: tuple[str, ...]) -> None:
    done = run_ampctl(*path, "-h", env={"COLUMNS": str(COLUMNS + 2)})
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"## {' '.join(['ampctl', *path])}\n\n```text\n{done.stdout}```\n" in PATH.read_text()


def test_the_help_shows_no_value_of_the_environment() -> None:
    done = run_ampctl("--help", env={"AMP_AUTH_TOKEN": "s3cret", "AMP_ADMIN_URL": "http://ops:hunter2@x"})
    assert done.returncode == 0
    assert "s3cret" not in done.stdout
    assert "hunter2" not in done.stdout
