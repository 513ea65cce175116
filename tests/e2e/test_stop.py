"""Stop requests."""

import signal
from functools import partial

import pytest

from tests.processes import Processes, eventually, free_port, get

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", ["worker", "admin", "exporter"])
def test_a_process_that_was_frozen_stops_on_sigterm(processes: Processes, database: str, command: str) -> None:
    """The kernel may deliver the signal to any thread of the process: one process alone could pass by luck."""
    started = []
    for number in range(3):
        port = free_port()
        where = f"--node-id=w{number}" if command == "worker" else f"--web.listen-address=127.0.0.1:{port}"
        started.append((processes.ampd(command, where, database=database), port))
    for process, port in started:
        if command == "worker":
            process.says("registered")
        else:
            eventually(partial(get, f"http://127.0.0.1:{port}/-/healthy"), 30)
        process.freeze()
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
    assert [process.wait() for process, _ in started] == [0, 0, 0]
