"""Subcommands of `ampd`: the options that all of them have."""

from collections.abc import Callable
from typing import Any

import click

from amp_workers.ampd.logs import DEFAULT_FORMAT, FORMATS, LEVELS, configure_logs
from amp_workers.version_option import version_option

_META = f"{__name__}.log"

_LOG_LEVEL = click.Option(
    ["--log.level", "log_level"],
    type=click.Choice(LEVELS),
    help="Only log messages with this severity or above.  [default: that of AMP_LOG, or info]",
)
_LOG_FORMAT = click.Option(
    ["--log.format", "log_format"],
    type=click.Choice(list(FORMATS)),
    default=DEFAULT_FORMAT,
    show_default=True,
    help="Format of the log.",
)


class _Command(click.Command):
    """Configures the log before the command runs."""

    def invoke(self, ctx: click.Context) -> Any:
        level, log_format = ctx.params.pop("log_level"), ctx.params.pop("log_format")
        ctx.meta[_META] = [f"--log.format={log_format}"] + ([f"--log.level={level}"] if level else [])
        configure_logs(level, log_format)
        return super().invoke(ctx)


def log_arguments() -> list[str]:
    """Return the options with which a child process logs as this one does."""
    arguments: list[str] = click.get_current_context().meta[_META]
    return arguments


def command(**attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a subcommand of a function, as `click.command` does."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        made = click.command(cls=_Command, **attributes)(function)
        made.params += [_LOG_LEVEL, _LOG_FORMAT]
        version_option(f"ampd {made.name}")(made)
        return made

    return decorate
