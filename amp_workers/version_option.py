"""The option `--version` of `ampd` and `ampctl`, two rooms that do not import each other."""

import os
from collections.abc import Callable
from typing import Any

import click


def version_option(program: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--version`, which shows what `git describe` printed when the program was built."""

    def show(context: click.Context, _: click.Parameter, is_wanted: bool) -> None:
        if is_wanted and not context.resilient_parsing:
            # On use: the import takes 5 ms, and in a checkout, git runs.
            from amp_workers.build_info import version

            click.echo(f"{program}, version {version(os.environ)}")
            context.exit()

    return click.option(
        "--version", is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show the version and exit."
    )
