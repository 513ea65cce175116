"""Options that several commands share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from amp_workers.ampd.listen_address import ListenAddress
from amp_workers.ampd.url_file import url_file_option
from amp_workers.metadata_db import DEFAULT_THRESHOLDS, ENVIRONMENT, InvalidMetadataDbUrl, MetadataDbUrl, Thresholds

if TYPE_CHECKING:
    from amp_workers.web import Policy

_BARE_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_UNITS = (86_400, 3_600, 60, 1)
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?", re.ASCII)

Command = TypeVar("Command", bound=Callable[..., Any])


class _MetadataDbUrlType(click.ParamType[MetadataDbUrl]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> MetadataDbUrl:
        if isinstance(value, MetadataDbUrl):  # from --metadata-db-url-file
            return value
        try:
            return MetadataDbUrl.parse(value)
        except InvalidMetadataDbUrl as error:
            self.fail(f"{error}.", param, ctx)


def thresholds(stale_after: float, lost_after: float, forget_after: float) -> Thresholds:
    """Return the thresholds of the three options.

    Raises:
        click.UsageError: they contradict each other.
    """
    try:
        return Thresholds(stale_after, lost_after, forget_after)
    except ValueError as error:
        raise click.UsageError(f"--stale-after, --lost-after, --forget-after: {error}.") from error


class DurationType(click.ParamType[float]):
    """A duration as Prometheus and Kubernetes write it, in seconds: `5s`, `1m30s`, `24h`. A bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        if _BARE_NUMBER.fullmatch(value):
            return float(value)
        parts = _DURATION.fullmatch(value)
        if not value or parts is None:
            self.fail(f"{value!r} is not a duration (examples: 5s, 1m30s, 24h, 30d).", param, ctx)
        return sum(float(number or 0) * unit for number, unit in zip(parts.groups(), _UNITS, strict=True))


class _ListenAddressType(click.ParamType[ListenAddress]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ListenAddress:
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
        help="The metadata DB: postgresql://user:password@host:5432/database. Prefer the environment, where other "
        "users cannot read the password.",
    )(url_file_option(command))


def listen_option(name: str, default: str, parameter: str = "listen_addresses") -> Callable[[Command], Command]:
    """The addresses on which a server listens."""
    return click.option(
        name,
        parameter,
        type=_ListenAddressType(),
        default=[default],
        show_default=True,
        multiple=True,
        metavar="HOST:PORT",
        help="Address on which to serve HTTP; repeat the option for several. :PORT is every IPv4 address of the "
        "machine, [::]:PORT every address.",
    )


def web_config_option(command: Command) -> Command:
    """The web configuration file, in the format of exporter-toolkit."""
    return click.option(
        "--web.config.file",
        "web_config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Web configuration file of the Prometheus exporters: TLS, users and headers. Read again when it or a "
        "certificate changes.",
    )(command)


def policy(
    web_config_file: Path | None, auth_token_file: Path | None = None, auth_token: str | None = None
) -> "Policy":
    """Return TLS, users, tokens and headers of a server.

    Raises:
        click.ClickException: a file, or the token, cannot be used.
    """
    from amp_workers.web import ConfigError, Policy

    try:
        return Policy(web_config_file, auth_token_file, auth_token)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error


def threshold_options(command: Command) -> Command:
    """The heartbeat ages at which a worker changes its state."""
    for name, default, text in (
        ("--forget-after", DEFAULT_THRESHOLDS.forget_after, "of being lost, failed or stopped a worker is forgotten"),
        ("--lost-after", DEFAULT_THRESHOLDS.lost_after, "without a heartbeat a worker is lost"),
        ("--stale-after", DEFAULT_THRESHOLDS.stale_after, "without a heartbeat a worker is stale"),
    ):
        option = click.option(
            name,
            type=DurationType(),
            default=f"{default / 3600:g}h" if default >= 3600 else f"{default:g}s",
            show_default=True,
            metavar="DURATION",
            help=f"After how long {text}.",
        )
        command = option(command)
    return command
