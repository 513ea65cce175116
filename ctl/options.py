"""Options and arguments of more than one command, and their types."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from amp_workers.ctl.client import AdminApi
from amp_workers.ctl.connection import TIMEOUT_SECONDS, Connection
from amp_workers.ctl.durations import InvalidDuration, parse_duration
from amp_workers.ctl.errors import InvalidAdminUrl, InvalidCredentials
from amp_workers.ctl.settings import settings

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from amp_workers.ctl.ranges import Range

Command = TypeVar("Command", bound=Callable[..., Any])


def admin_api(context: click.Context, timeout_seconds: float = TIMEOUT_SECONDS) -> AdminApi:
    """Return the API that the options of `ampctl` name.

    Raises:
        click.UsageError: the options are invalid.
    """
    root = context.find_root()
    found = settings(root)
    try:
        return AdminApi(
            Connection(
                str(found["url"].value),
                *(found[name].value for name in ("auth_token", "ca_file", "client_cert", "client_key")),
                token_source=found["auth_token"].source,
                insecure=root.params["insecure"],
                timeout_seconds=timeout_seconds,
            )
        )
    except InvalidAdminUrl as error:
        raise click.BadParameter(f"{error}.", context, param_hint="--admin-url") from error
    except InvalidCredentials as error:
        raise click.UsageError(f"{error}.", context) from error


class ListType(click.ParamType[tuple[str, ...]]):
    """One or more of some words, separated by commas."""

    def __init__(self, name: str, *words: str) -> None:
        self.name = name
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):  # Click can convert a value twice
            return value
        given = str(value).split(",")
        for word in given:
            if word not in self._words:
                from amp_workers.ctl.suggestions import did_you_mean

                known = ", ".join(self._words)
                self.fail(f"{word!r} is not one of {known}.{did_you_mean(word, self._words)}", param, ctx)
        return tuple(dict.fromkeys(given))

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - Click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{word}") for word in self._words if word.startswith(last)]


def complete_context(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of contexts that begin with a text; none where the configuration cannot be read."""
    from amp_workers.ctl.contexts import InvalidContext, all_contexts

    try:
        return [name for name in sorted(all_contexts()) if name.startswith(incomplete)]
    except InvalidContext:
        return []


class DurationType(click.ParamType[float]):
    """A duration, in seconds."""

    name = "duration"

    def __init__(self, at_least: float = 0.0) -> None:
        self._at_least = at_least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):  # Click can convert a value twice
            return value
        try:
            seconds = parse_duration(value)
        except InvalidDuration as error:
            self.fail(f"{error}.", param, ctx)
        if seconds < self._at_least:
            self.fail(f"{value} is too short: {self._at_least:g}s is the shortest.", param, ctx)
        return seconds


class RangeType(click.ParamType["Range"]):
    """A range of a Nagios plugin."""

    name = "range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Range":
        from amp_workers.ctl.ranges import InvalidRange, Range

        if isinstance(value, Range):  # Click can convert a value twice
            return value
        try:
            return Range.parse(value)
        except InvalidRange as error:
            self.fail(f"{error}.", param, ctx)


def states_option(*states: str, text: str) -> Callable[[Command], Command]:
    """`--state`, several times or several at once; the command gets `states`, a tuple of them."""
    return click.option(
        "--state",
        "states",
        type=ListType("states", *states),
        multiple=True,
        callback=lambda _context, _parameter, value: tuple(dict.fromkeys(state for each in value for state in each)),
        metavar="STATE[,STATE…]",
        help=f"{text}: {', '.join(states)}.",
    )


_FORMATS = {"text", "wide", "json", "jsonl", "csv", "name"}
"""Those of all commands."""


class _FormatOption(click.Option):
    """One of the options for the output format. Two different formats on a command line are an error."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:  # noqa: ARG002 - Click's signature
        action = "append_const" if self.is_flag else "append"
        parser.add_option(self, self.opts, dest=self.name, action=action, const=self.flag_value)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        # The variable is for all commands, and not every command has every format.
        value = super().resolve_envvar_value(ctx)
        if value in _FORMATS and isinstance(self.type, click.Choice) and value not in self.type.choices:
            return None
        return value

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        formats = dict.fromkeys(value if isinstance(value, list) else [value])  # the default is not a list
        if len(formats) > 1:
            first, second, *_ = formats
            raise click.UsageError(
                f"The output is either {first!r} or {second!r}: --json and --wide are short for --output.", ctx
            )
        return super().type_cast_value(ctx, *formats)


def text_or_json_option(command: Command) -> Command:
    """`--output` of a command that has no table."""
    formats = click.Choice(["text", "json"])
    return click.option("--output", "-o", type=formats, default="text", show_default=True, help="The format.")(command)


def output_options(*formats: str, wide: str = "") -> Callable[[Command], Command]:
    """`--output`, and `--wide` and `--json` for short; the command gets `output`, one of the formats.

    wide: what the format `wide` is, where the command has it.
    """

    def add(command: Command) -> Command:
        way = partial(click.option, cls=_FormatOption)
        wide_option = way("--wide", "output", flag_value="wide", help=f"Short for --output wide: {wide}.")
        for option in (
            way("--json", "output", flag_value="json", help="Short for --output json: the API's answer."),
            *([wide_option] if "wide" in formats else []),
            way(
                "--output",
                "-o",
                type=click.Choice(formats),
                default="text",
                envvar="AMPCTL_OUTPUT",
                show_default=True,
                show_envvar=True,
                help="The format.",
            ),
        ):
            command = option(command)
        return command

    return add
