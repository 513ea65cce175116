"""The command line that `ps` shows for an `ampd` process."""

import re
from collections.abc import Sequence
from pathlib import Path

from setproctitle import setproctitle

_URL = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://.*", re.DOTALL)


def hide_secrets_in_process_title(arguments: Sequence[str]) -> None:
    """Remove the metadata DB's URL from the command line, which every user of the machine can read in /proc."""
    setproctitle(process_title(arguments))


def process_title(arguments: Sequence[str]) -> str:
    """Return the command line without URLs of a metadata DB."""
    shown = [_URL.sub("postgresql://...", argument) for argument in arguments[1:]]
    program = Path(arguments[0]).name
    return " ".join(["ampd" if program == "__main__.py" else program, *shown])
