"""Logging of every `ampd` process: logfmt or JSON on standard error, one line per event."""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

import click

from amp_workers.ampd.output import drain, unblocked

ENVIRONMENT = "AMP_LOG"

DEFAULT_LEVEL = "info"
DEFAULT_FORMAT = "logfmt"

LEVELS = ("debug", "info", "warn", "error")
"""Those of `--log.level`, as the Prometheus exporters have them."""

_LEVELS = {
    "off": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,  # the level of Amp's own `ampd`, which reads the same variable
}

_LIBRARIES = dict.fromkeys(("alembic", "sqlalchemy", "psycopg", "werkzeug"), logging.WARNING)
"""The lowest levels at which messages of libraries are logged."""

_LIBRARIES["tornado"] = logging.ERROR  # clients can cause any number of its warnings

_STANDARD_ATTRIBUTES = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""The attributes of a record that has no `extra=`."""

_BARE = re.compile(r"[\w./:@+,-]+", re.ASCII)

_log = logging.getLogger("amp_workers.ampd")


def never_block_standard_error() -> None:
    """Replace sys.stderr by a stream that never blocks: for log lines, error messages and tracebacks."""
    sys.stderr = unblocked(sys.__stderr__.fileno() if sys.__stderr__ else 2, _dropped)


def configure_logs(level: str | None = None, log_format: str = DEFAULT_FORMAT) -> None:
    """Set up logging for this process. level: one of LEVELS, by default that of AMP_LOG.

    Raises:
        click.UsageError: AMP_LOG is not a level.
    """
    name, ignored = log_level(os.environ)
    if level is not None:
        name, ignored = level, []
    handler = _Handler(sys.stderr)
    handler.setFormatter(FORMATS[log_format]())
    logging.basicConfig(level=_LEVELS[name], handlers=[handler], force=True)
    for library, lowest in _LIBRARIES.items():
        logging.getLogger(library).setLevel(max(lowest, _LEVELS[name]))
    if ignored:
        fields = {"ignored": ",".join(ignored)}
        _log.warning("%s: directives for targets are ignored; the level is %s", ENVIRONMENT, name, extra=fields)


def log_level(environ: Mapping[str, str], default: str = DEFAULT_LEVEL) -> tuple[str, list[str]]:
    """Return the level that AMP_LOG names, and its directives for targets of Amp's Rust programs, which are ignored.

    `info,amp=debug` is the level `info` and the directive `amp=debug`.

    Raises:
        click.UsageError: AMP_LOG is a single word that is not a level.
    """
    value = environ.get(ENVIRONMENT, "").strip()
    directives = [each.strip() for each in value.split(",") if each.strip()]
    levels = [each.lower() for each in directives if each.lower() in _LEVELS]
    ignored = [each for each in directives if each.lower() not in _LEVELS]
    if len(directives) == 1 and ignored and not set("=[").intersection(value):
        raise click.UsageError(f"{ENVIRONMENT}={value} is not a level: use error, warn, info, debug or trace")
    return levels[-1] if levels else default, ignored


class _Handler(logging.StreamHandler[TextIO]):
    """Writes what is queued when it is closed: the reaper ends with `os._exit`, after `logging.shutdown`."""

    def close(self) -> None:
        drain()
        super().close()


def add_log_fields(**fields: object) -> None:
    """Add fields such as `node_id` to every line of this process and of the processes that it forks."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Logfmt):
            handler.formatter.fields.update(fields)


class Logfmt(logging.Formatter):
    """`ts=2025-01-15T17:20:15.123Z level=info component=worker msg="registered" node_id=worker-01`.

    The fields after `msg` are those of the process and those of `extra=`. A field that is None is omitted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, object] = {}

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}: {self.formatException(record.exc_info)}"
        line: dict[str, object] = {
            "ts": moment.replace("+00:00", "Z"),
            "level": "warn" if record.levelno == logging.WARNING else record.levelname.lower(),
            "component": record.name.removeprefix("amp_workers.").lstrip("_"),
            "msg": message,
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        line |= {name: value for name, value in (self.fields | extra).items() if value is not None}
        return self.render(line)

    def render(self, line: Mapping[str, object]) -> str:
        """Return the text of one line."""
        return " ".join(f"{name}={_value(value, quoted=name == 'msg')}" for name, value in line.items())


class JsonLines(Logfmt):
    """`{"ts": "2025-01-15T17:20:15.123Z", "level": "info", "component": "worker", "msg": "registered"}`: the fields of
    Logfmt."""

    def render(self, line: Mapping[str, object]) -> str:
        return json.dumps(line, ensure_ascii=False, default=str)


FORMATS = {DEFAULT_FORMAT: Logfmt, "json": JsonLines}


def _value(value: object, *, quoted: bool) -> str:
    text = str(value)
    # Parsers of logfmt read the escapes of JSON.
    return text if _BARE.fullmatch(text) and not quoted else json.dumps(text, ensure_ascii=False)


def _dropped(lines: int) -> str:
    text = "1 line" if lines == 1 else f"{lines} lines"
    message = f"{text} dropped: standard error was not read, or is closed"
    record = logging.LogRecord(_log.name, logging.WARNING, "", 0, message, None, None)
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    return next(filter(None, formatters), Logfmt()).format(record)
