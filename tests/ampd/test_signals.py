"""A worker without a program on signals that request a stop."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.processes import Processes, eventually


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_stops_on_purpose(
    processes: Processes, database: str, sql: Callable[..., list[Any]], number: signal.Signals
) -> None:
    worker = processes.ampd("worker", "--node-id=w", database=database)
    worker.says("registered as 'w'")
    worker.signal(number)
    assert worker.wait() == 0
    assert sql("SELECT info ? 'stopped_at' FROM workers") == [(True,)]


@pytest.mark.slow
def test_an_inherited_ignore_is_kept(processes: Processes, database: str, sql: Callable[..., list[Any]]) -> None:
    script = "trap '' HUP INT TERM; exec ampd worker --node-id=w"
    worker = processes.start("sh", "-c", script, env={"AMP_METADATA_DB_URL": database})
    worker.says("registered as 'w'")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        worker.signal(number)
    [(signalled_at,)] = sql("SELECT clock_timestamp() + interval '1 s'")
    eventually(lambda: sql("SELECT heartbeat_at > %s FROM workers", signalled_at) == [(True,)])
    assert worker.popen.poll() is None
    assert sql("SELECT info ? 'stopped_at' FROM workers") == [(False,)]
