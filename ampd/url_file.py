"""The metadata DB's URL from a file: a systemd credential or a mounted secret, read again at each connection.

libpq's `passfile=` does not fit: it ignores a file with group permissions, which systemd credentials (through an access
list) and mounted secrets have.
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
    """`--metadata-db-url-file`: the default of `--metadata-db-url` is read from this file."""
    return click.option(
        "--metadata-db-url-file",
        type=click.Path(path_type=Path),
        envvar=ENVIRONMENT,
        show_envvar=True,
        is_eager=True,
        expose_value=False,
        callback=_read,
        metavar="FILE",
        help="File that contains only the metadata DB's URL, such as a systemd credential or a mounted secret. Read "
        "again at each connection.",
    )(command)


def _read(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    if from_environment(os.environ) is not None:
        raise click.BadParameter(
            f"the environment has a metadata DB URL, too: unset {' and '.join(URL_ENVIRONMENT)}.", context, parameter
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
    """Return the error message. A path that does not exist is not shown: it may be the URL, with a password."""
    if ":/" in str(path):
        return f"the value is a URL, not the path of a file: set {URL_ENVIRONMENT[0]} to the URL instead."
    if os.path.exists(path):  # noqa: PTH110 - Path's raises an error where this one says no
        return f"cannot read {path}: {error.strerror}."
    return f"cannot read the file: {error.strerror}."
