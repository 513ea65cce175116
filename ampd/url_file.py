"""The metadata DB's URL from a file: a credential of systemd's, or a mounted secret, read again at each connection.

libpq's own `passfile=` will not do for these. It ignores a file that shows group permissions, as systemd's credentials
do where they are given to a service's user by an access list, and as mounted secrets do.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from amp_workers.metadata_db import ENVIRONMENT as URL_ENVIRONMENT
from amp_workers.metadata_db import InvalidMetadataDbUrl, MetadataDbUrl, from_environment

ENVIRONMENT = "AMP_METADATA_DB_URL_FILE"

Command = TypeVar("Command", bound=Callable[..., Any])


def url_file_option(command: Command) -> Command:
    """`--metadata-db-url-file`, from which `--metadata-db-url` takes its value where it is not given itself."""
    return click.option(
        "--metadata-db-url-file",
        type=click.Path(path_type=Path),
        envvar=ENVIRONMENT,
        show_envvar=True,
        is_eager=True,
        expose_value=False,
        callback=_read,
        metavar="FILE",
        help="A file that holds the metadata DB's URL and nothing else, such as a credential of systemd's or a mounted "
        "secret. It is read again at each connection.",
    )(command)


def _read(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    if from_environment(os.environ) is not None:
        raise click.BadParameter(
            f"the environment names a metadata DB as well: unset {' and '.join(URL_ENVIRONMENT)}.", context, parameter
        )
    path = Path(str(path).strip())  # a variable may end with a newline
    try:
        url = MetadataDbUrl.read(path)
    except OSError as error:
        raise click.BadParameter(_unreadable(path, error), context, parameter) from error
    except InvalidMetadataDbUrl as error:
        raise click.BadParameter(f"{path} cannot be used: {error}.", context, parameter) from error
    context.default_map = {**(context.default_map or {}), "metadata_db_url": url}


def _unreadable(path: Path, error: OSError) -> str:
    """Say what is wrong, and show nothing that is no file: it may be the URL itself, with a password."""
    if ":/" in str(path):
        return f"what it has is a URL, and no file that holds one: that goes into {URL_ENVIRONMENT[0]}."
    if os.path.exists(path):  # noqa: PTH110 - Path's raises an error where this one says no
        return f"cannot read {path}: {error.strerror}."
    return f"cannot read the file that it names: {error.strerror}."
