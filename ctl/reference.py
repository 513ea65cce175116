"""docs/ampctl.md, made from what `--help` prints: `python -m amp_workers.ctl.reference` writes it.

The file is committed, for readers who have not installed it; a test compares it with the output.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from amp_workers.ctl.cli import ampctl

PATH = Path(__file__).resolve().parents[1] / "docs" / "ampctl.md"

COLUMNS = 98

_HEAD = """\
# ampctl

After reading this page, you know every command of `ampctl` and its options. `python -m amp_workers.ctl.reference` makes
it from what `--help` prints.

`ampctl` shows, checks and removes the workers of a fleet, through the Admin API:

```sh
# Which workers have been silent for more than 5 seconds? As a table, as an exit code, and as JSON.
ampctl worker list --wide --state stale,lost --sort last-seen
ampctl worker check --max-age 5s
ampctl worker list --json | jq '.workers[] | select((now - (.heartbeat_at | fromdateiso8601)) > 5)'
```
"""


def reference() -> str:
    """Return the file's text."""
    return "\n".join([_HEAD, *_sections("ampctl", ampctl, None)])


def _sections(name: str, command: click.Command, parent: click.Context | None) -> Iterator[str]:
    # As --help, but never as wide as this terminal is.
    context = command.make_context(name, [], parent, resilient_parsing=True, terminal_width=COLUMNS)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from _sections(each, command.commands[each], context)


if __name__ == "__main__":
    PATH.write_text(reference())
