"""What `ps` shows of an `ampd` process."""

import re
from collections.abc import Sequence
from pathlib import Path

from setproctitle import setproctitle

_URL = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://.*", re.DOTALL)


def hide_secrets_in_process_title(arguments: Sequence[str]) -> None:
    """Show the command line without a metadata DB's URL: everybody on the machine can read it in /proc."""
    setproctitle(process_title(arguments))


def process_title(arguments: Sequence[str]) -> str:
    """Return the command line as it may be shown."""
    shown = [_URL.sub("postgresql://...", argument) for argument in arguments[1:]]
    program = Path(arguments[0]).name
    return " ".join(["ampd" if program == "__main__.py" else program, *shown])
