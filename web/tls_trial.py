"""Whether the server takes a certificate, found out by a process that may die of it."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from amp_workers.web.memory_file import MemoryFile

_PROGRAM = Path(__file__).with_name("tls_trial_program.py")
_SECONDS = 20.0
_REASON = re.compile(r"an `Err` value: (.*)")


class TrialError(Exception):
    """The server would end over a certificate; the message says why."""


def try_tls(chain: bytes, key: bytes, client_ca: bytes | None, oldest: str) -> None:
    """Have the server's own TLS load what it is to serve with.

    It refuses what no check of ours foresees, a critical extension say, and ends then: it would end a running server.

    Raises:
        TrialError: it does not take it.
    """
    refusal = _refusal(chain, key, client_ca or b"", oldest)
    if refusal is not None:
        raise TrialError(refusal)


# What is wrong is read again every second, and must not start a process each time.
@lru_cache(maxsize=2)
def _refusal(chain: bytes, key: bytes, client_ca: bytes, oldest: str) -> str | None:
    with MemoryFile(chain) as chain_file, MemoryFile(key) as key_file, MemoryFile(client_ca) as ca_file:
        files = [chain_file, key_file, ca_file]
        paths = [chain_file.path, key_file.path, ca_file.path if client_ca else ""]
        return _run([*paths, oldest], [file.descriptor for file in files])


def _run(arguments: Sequence[str], descriptors: Sequence[int]) -> str | None:
    # -P: beside the program lie modules of ours, and none that it should find before others.
    command = [sys.executable, "-P", str(_PROGRAM), *arguments]
    environment = os.environ | {"RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(
            command,
            pass_fds=descriptors,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TrialError(f"it could not be tried out: {error}") from error
    if done.returncode == 0:
        return None
    found = _REASON.search(done.stderr)
    if found is None:
        # Killed for want of memory, say, or too slow: nothing that may be remembered of the certificate.
        last = done.stderr.strip().rpartition("\n")[2]
        raise TrialError(f"it could not be tried out: the process ended with {done.returncode}: {last}")
    return found[1]
