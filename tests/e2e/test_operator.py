"""An operator manages a fleet over a network: TLS, a token, and `ampctl` from the first list to the removal of a
worker.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Insert
from tests.processes import Processes, eventually, run
from tests.web.conftest import Authority
from tests.web.servers import Served, write

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]

OLD_TOKEN, NEW_TOKEN = "the-token-of-last-month", "the-token-of-this-month"


def test_an_operator_lists_checks_and_cleans_up_a_fleet(
    processes: Processes, database: str, sql: Sql, insert_worker: Insert, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    chain, key = authority.server()
    web = write(tmp_path / "web.yml", f"tls_server_config:\n  cert_file: {chain}\n  key_file: {key}\n")
    tokens = write(tmp_path / "tokens", f"{OLD_TOKEN}\n")
    admin = Served(processes, "admin", "--web.config.file", web, "--auth-token-file", tokens, database=database)
    worker = processes.ampd("worker", "--node-id=alive", database=database)
    worker.says("registered")
    insert_worker("gone", 90_000)

    def ampctl(*arguments: str, token: str | None = OLD_TOKEN, ca: bool = True) -> tuple[int, str, str]:
        options = [
            "--admin-url",
            f"https://localhost:{admin.port}",
            *(["--ca-file", str(authority.file)] if ca else []),
        ]
        done = run("ampctl", *options, "worker", *arguments, env={} if token is None else {"AMP_AUTH_TOKEN": token})
        return done.returncode, done.stdout, done.stderr

    assert ampctl("list")[0] == 0
    code, _, told = ampctl("list", token=None)
    assert (code, "set AMP_AUTH_TOKEN" in told) == (1, True)
    code, _, told = ampctl("list", ca=False)
    assert (code, "--ca-file" in told) == (1, True)
    eventually(lambda: ampctl("check")[0] == 0)

    code, _, told = ampctl("forget", "alive", "--yes")
    assert (code, "WORKER_ALIVE" in told) == (1, True)
    code, removed, _ = ampctl("forget", "--state", "lost,forgotten", "--older-than", "1d", "--yes")
    assert (code, "gone: removed" in removed) == (0, True)
    admin.process.says("'gone'")
    assert sql("SELECT node_id FROM workers") == [("alive",)]

    # A token is replaced: both are valid for a while, then only the new one.
    write(tmp_path / "tokens", f"{OLD_TOKEN}\n{NEW_TOKEN}\n")
    eventually(lambda: ampctl("list", token=NEW_TOKEN)[0] == 0)
    assert ampctl("list")[0] == 0
    write(tmp_path / "tokens", f"{NEW_TOKEN}\n")
    eventually(lambda: "the token was refused" in ampctl("list")[2])
    assert ampctl("list", token=NEW_TOKEN)[0] == 0

    worker.signal(signal.SIGKILL)
    eventually(lambda: ampctl("check", token=NEW_TOKEN)[0] == 1)
    assert OLD_TOKEN not in admin.process.output
    assert NEW_TOKEN not in admin.process.output
