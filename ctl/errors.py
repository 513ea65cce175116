"""Errors between `ampctl` and an Admin API."""

import click

from amp_workers.errors import AmpError


class ApiError(AmpError, click.ClickException):
    """The Admin API could not be reached, or answered with an error. The message names the URL and the cause."""

    def __init__(
        self,
        message: str,
        *,
        cause: str | None = None,
        url: str | None = None,
        status: int | None = None,
        code: str | None = None,
    ) -> None:
        """cause: the message without the URL. status: of HTTP. code: the API's error_code, such as WORKER_NOT_FOUND."""
        super().__init__(message)
        self.url = url
        self.cause = message if cause is None else cause
        self.status = status
        self.code = code


class AmpsOwnApi(ApiError):
    """The URL is that of Amp's own Admin API, which does not have what the command needs."""

    def __init__(self, url: str) -> None:
        cause = (
            "this is Amp's own Admin API, which has no worker states. Only `ampctl worker list` and "
            "`ampctl worker inspect` work with it. Use the address of this project's `ampd admin` (with "
            "--admin-url or AMP_ADMIN_URL); on the same host, start that on another port, such as "
            "`ampd admin --web.listen-address 127.0.0.1:1611`"
        )
        super().__init__(f"{url}: {cause}", cause=cause, url=url)


class InvalidAdminUrl(AmpError, ValueError):
    """The URL of the Admin API is invalid. The message gives the reason."""


class InvalidCredentials(AmpError, ValueError):
    """The token or the certificate cannot be used. The message gives the reason, and contains no secret."""
