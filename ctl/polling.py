"""Repeated reads that continue after outages of the Admin API."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import click

from amp_workers.ctl.errors import AmpsOwnApi, ApiError

Found = TypeVar("Found")


def poll(look: Callable[[], Found], interval_seconds: float) -> Iterator[Found]:
    """Yield the results of `look`, without end. The start and the end of an outage are reported on stderr.

    Raises:
        AmpsOwnApi: the API does not have what the command needs.
    """
    failing = False
    while True:
        try:
            found = look()
        except AmpsOwnApi:
            raise
        except ApiError as error:
            if not failing:
                click.echo(f"{error}; retrying every {interval_seconds:g}s", err=True)
            failing = True
        else:
            if failing:
                click.echo("the Admin API is available again", err=True)
            failing = False
            yield found
        time.sleep(interval_seconds)
