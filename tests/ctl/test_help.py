"""`--help` of every command, at the width of a plain terminal."""

import click
import pytest

from amp_workers.ctl.cli import ampctl


def commands(name: str, command: click.Command, parent: click.Context | None = None) -> dict[str, click.Context]:
    context = command.make_context(name, [], parent, resilient_parsing=True, terminal_width=80)
    found = {context.command_path: context}
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            found |= commands(each, command.commands[each], context)
    return found


COMMANDS = commands("ampctl", ampctl)


@pytest.mark.parametrize("path", COMMANDS)
def test_it_fits_80_columns_and_breaks_no_word(path: str) -> None:
    context = COMMANDS[path]
    text = context.command.get_help(context)
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Commands:")[2]
    context.terminal_width = context.max_content_width = 1_000
    assert set(text.split()) <= set(context.command.get_help(context).split())
    context.terminal_width = 80


def test_every_command_has_an_example() -> None:
    without = [path for path, context in COMMANDS.items() if "Example" not in str(context.command.help)]
    assert without == []
