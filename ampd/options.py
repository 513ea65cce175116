"""Options that more than one command has."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from metadata_db import DEFAULT_THRESHOLDS, ENVIRONMENT, InvalidMetadataDbUrl, MetadataDbUrl, Thresholds

if TYPE_CHECKING:
    from web import ListenAddress

Command = TypeVar("Command", bound=Callable[..., Any])


class _MetadataDbUrlType(click.ParamType[MetadataDbUrl]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> MetadataDbUrl:
        try:
            return MetadataDbUrl.parse(value)
        except InvalidMetadataDbUrl as error:
            self.fail(f"{error}.", param, ctx)


def thresholds(stale_after: float, lost_after: float, forget_after: float) -> Thresholds:
    """Return what the three options say.

    Raises:
        click.UsageError: they contradict themselves.
    """
    try:
        return Thresholds(stale_after, lost_after, forget_after)
    except ValueError as error:
        raise click.UsageError(f"--stale-after, --lost-after, --forget-after: {error}.") from error


class _ListenAddressType(click.ParamType["ListenAddress"]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "ListenAddress":
        from web import ListenAddress

        try:
            return ListenAddress.parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


def metadata_db_option(command: Command) -> Command:
    """The metadata DB's URL."""
    return click.option(
        "--metadata-db-url",
        type=_MetadataDbUrlType(),
        envvar=list(ENVIRONMENT),
        show_envvar=True,
        required=True,
        metavar="URL",
        help="The metadata DB: postgresql://user:password@host:5432/database. Better kept in the environment, where "
        "no other user can read the password.",
    )(command)


def listen_option(name: str, default: str, parameter: str = "listen_address") -> Callable[[Command], Command]:
    """Where a server listens."""
    return click.option(
        name,
        parameter,
        type=_ListenAddressType(),
        default=default,
        show_default=True,
        metavar="HOST:PORT",
        help="Where to serve HTTP. :PORT serves on every address of the machine.",
    )


def web_config_option(command: Command) -> Command:
    """The web configuration file, as exporter-toolkit's servers have it."""
    return click.option(
        "--web.config.file",
        expose_value=False,
        callback=_refuse_web_config,
        metavar="FILE",
        help="TLS and authentication by a web configuration file. Not supported yet: starting with it is refused.",
    )(command)


def _refuse_web_config(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.BadParameter(
            "TLS and authentication are not supported yet. Serve on a loopback address behind a proxy that has them.",
            context,
            parameter,
        )


def threshold_options(command: Command) -> Command:
    """The ages at which a worker changes its state."""
    seconds = click.FLOAT
    for name, default, text in (
        ("--forget-after", DEFAULT_THRESHOLDS.forget_after, "of being lost or stopped a worker is forgotten"),
        ("--lost-after", DEFAULT_THRESHOLDS.lost_after, "without a heartbeat a worker is lost"),
        ("--stale-after", DEFAULT_THRESHOLDS.stale_after, "without a heartbeat a worker is stale"),
    ):
        option = click.option(
            name,
            type=seconds,
            default=default,
            show_default=True,
            metavar="SECONDS",
            help=f"After how many seconds {text}.",
        )
        command = option(command)
    return command
