"""How every `ampd` process logs: one line an event, in logfmt, on standard error."""

import logging
import os
import sys
from datetime import UTC, datetime

import click

ENVIRONMENT = "AMP_LOG"

_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


def configure_logs() -> None:
    """Set up logging for this process, at the level that AMP_LOG asks for.

    Raises:
        click.UsageError: AMP_LOG is no level.
    """
    name = os.environ.get(ENVIRONMENT) or "info"
    if name.lower() not in _LEVELS:
        raise click.UsageError(f"{ENVIRONMENT}={name} is no level: use error, warn, info or debug")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Logfmt())
    logging.basicConfig(level=_LEVELS[name.lower()], handlers=[handler], force=True)
    # Nobody forks while another thread writes a line: the child would have a lock of stderr that nobody releases. Its
    # copy of the handler's own lock is made anew by `logging`.
    os.register_at_fork(before=handler.acquire, after_in_parent=handler.release)
    # Other people's libraries: what they have to say below a warning is not about workers.
    for library in ("alembic", "sqlalchemy", "psycopg", "werkzeug"):
        logging.getLogger(library).setLevel(logging.WARNING)


class Logfmt(logging.Formatter):
    """`ts=2025-01-15T17:20:15.123Z level=info component=worker msg="registered as 'worker-01'"`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}: {self.formatException(record.exc_info)}"
        quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        component = record.name.removeprefix("amp_workers.").lstrip("_")
        level = "warn" if record.levelno == logging.WARNING else record.levelname.lower()
        return f'ts={moment.replace("+00:00", "Z")} level={level} component={component} msg="{quoted}"'
