"""Options and arguments that more than one command has, and what they become."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from amp_workers.ctl.client import AdminApi
from amp_workers.ctl.connection import TIMEOUT_SECONDS, Connection
from amp_workers.ctl.durations import InvalidDuration, parse_duration
from amp_workers.ctl.errors import InvalidAdminUrl, InvalidCredentials

if TYPE_CHECKING:
    from click.parser import _OptionParser
    from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])


def admin_api(context: click.Context, timeout_seconds: float = TIMEOUT_SECONDS) -> AdminApi:
    """Return the API that the options of `ampctl` name.

    Raises:
        click.UsageError: they name none.
    """
    root = context.find_root()
    given = root.get_parameter_source("auth_token") is click.core.ParameterSource.COMMANDLINE
    source = "--auth-token" if given else "AMP_AUTH_TOKEN"
    try:
        return AdminApi(Connection(**root.params, token_source=source, timeout_seconds=timeout_seconds))
    except InvalidAdminUrl as error:
        raise click.BadParameter(f"{error}.", context, param_hint="--admin-url") from error
    except InvalidCredentials as error:
        raise click.UsageError(f"{error}.", context) from error


class StatesType(click.ParamType[list[str]]):
    """One or more states, separated by commas."""

    name = "states"

    def __init__(self, *states: str) -> None:
        self._states = states

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        states = str(value).split(",")
        for state in states:
            if state not in self._states:
                from amp_workers.ctl.suggestions import did_you_mean

                known = ", ".join(self._states)
                self.fail(f"{state!r} is not one of {known}.{did_you_mean(state, self._states)}", param, ctx)
        return states

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - Click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{state}") for state in self._states if state.startswith(last)]


class DurationType(click.ParamType[float]):
    """A duration, in seconds."""

    name = "duration"

    def __init__(self, at_least: float = 0.0) -> None:
        self._at_least = at_least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):  # Click may convert what is converted
            return value
        try:
            seconds = parse_duration(value)
        except InvalidDuration as error:
            self.fail(f"{error}.", param, ctx)
        if seconds < self._at_least:
            self.fail(f"{value} is too short: {self._at_least:g}s is the shortest.", param, ctx)
        return seconds


def states_option(*states: str, text: str) -> Callable[[Command], Command]:
    """`--state`, several times or several at once; the command gets `states`, a tuple of them."""
    return click.option(
        "--state",
        "states",
        type=StatesType(*states),
        multiple=True,
        callback=lambda _context, _parameter, value: tuple(dict.fromkeys(state for each in value for state in each)),
        metavar="STATE[,STATE…]",
        help=f"{text}: {', '.join(states)}.",
    )


class _FormatOption(click.Option):
    """One of the ways to name an output format. Two different ones on a line are an error, and none silently wins."""

    def add_to_parser(self, parser: "_OptionParser", ctx: click.Context) -> None:  # noqa: ARG002 - Click's signature
        action = "append_const" if self.is_flag else "append"
        parser.add_option(self, self.opts, dest=self.name, action=action, const=self.flag_value)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        formats = dict.fromkeys(value if isinstance(value, list) else [value])  # the default comes alone
        if len(formats) > 1:
            first, second, *_ = formats
            raise click.UsageError(
                f"The output is either {first!r} or {second!r}: --json and --wide are short for --output.", ctx
            )
        return super().type_cast_value(ctx, *formats)


def output_options(*formats: str) -> Callable[[Command], Command]:
    """`--output`, and `--wide` and `--json` for short; the command gets `output`, one of the formats."""

    def add(command: Command) -> Command:
        way = partial(click.option, cls=_FormatOption)
        for option in (
            way("--json", "output", flag_value="json", help="The API's answer, for jq and scripts."),
            way("--wide", "output", flag_value="wide", help="State, age and uptime as well."),
            way("--output", "-o", type=click.Choice(formats), default="text", show_default=True, help="How to print."),
        ):
            command = option(command)
        return command

    return add
