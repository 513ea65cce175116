"""`with Worker(…)` in Python programs, against a real PostgreSQL."""

import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amp_workers.metadata_db import InvalidMetadataDbUrl, InvalidNodeId, MetadataDbUrl
from amp_workers.metadata_db.migrate import upgrade
from amp_workers.worker import FencedOut, NodeIdTaken, Worker
from tests.processes import ROOT, Process, Processes, eventually
from tests.worker.rival import take_over

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]
Start = Callable[[str], Process]

EXAMPLE, ASYNCIO_EXAMPLE = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "workers.md").read_text(), re.DOTALL)

PRELUDE = """
import os, signal, sys, threading, time
from amp_workers.worker import Worker
url = os.environ["AMP_METADATA_DB_URL"]
worker = Worker(node_id="w", metadata_db_url=url)
"""


@pytest.fixture
def start(processes: Processes, database: str) -> Start:
    """Start a Python program that has a `worker` to enter: `start("with worker: …")`."""

    def start_program(code: str) -> Process:
        return processes.start("python", "-c", PRELUDE + code, env={"AMP_METADATA_DB_URL": database})

    return start_program


def stopped(sql: Sql) -> bool:
    return bool(sql("SELECT info ? 'stopped_at' FROM workers")[0][0])


@pytest.fixture
def example(processes: Processes, database: str) -> Process:
    """The program of docs/workers.md."""
    process = processes.start("python", "-c", EXAMPLE, env={"AMP_METADATA_DB_URL": database})
    process.says("extracted block 3")
    return process


def test_the_documented_example_runs_as_a_worker_until_it_is_stopped(example: Process, sql: Sql) -> None:
    assert sql("SELECT node_id FROM workers") == [("extractor-01",)]
    assert not stopped(sql)
    assert example.stop() == 0
    assert stopped(sql)
    assert "Traceback" not in example.output


def test_the_documented_example_stops_when_it_is_fenced_out(example: Process, sql: Sql) -> None:
    take_over(sql)
    assert example.wait() == 1
    assert "FencedOut: node id 'extractor-01' was taken over by another worker process" in example.output
    # The error is raised at once, and not only at the end of the block.
    assert example.output.index("'extractor-01' no longer sends heartbeats") < example.output.index("Traceback")


EXIT_ON_SIGTERM = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
INSIDE_ASYNCIO = """
import asyncio
async def main():
    with worker:
        print("extracted a block", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "number", "exit_code", "failure"),
    [
        (ASYNCIO_EXAMPLE, signal.SIGINT, -signal.SIGINT, None),
        (EXIT_ON_SIGTERM + ASYNCIO_EXAMPLE, signal.SIGTERM, 0, None),
        (ASYNCIO_EXAMPLE.replace("while True", "while 1 / 0"), None, 1, "raised ZeroDivisionError"),
        (PRELUDE + INSIDE_ASYNCIO, signal.SIGINT, -signal.SIGINT, "raised CancelledError"),
    ],
    ids=["Ctrl-C", "SIGTERM", "an exception", "Ctrl-C inside of asyncio.run"],
)
def test_the_end_of_a_program_that_uses_asyncio(
    processes: Processes, database: str, sql: Sql, code: str, number: int | None, exit_code: int, failure: str | None
) -> None:
    program = processes.start("python", "-c", code, env={"AMP_METADATA_DB_URL": database})
    if number is not None:
        program.says("extracted a block")
        program.signal(number)
    assert program.wait() == exit_code
    assert stopped(sql)
    assert sql("SELECT info ->> 'failure' FROM workers") == [(failure,)]


def test_heartbeats_while_the_block_runs_and_records_the_stop(database: str, sql: Sql) -> None:
    with Worker(node_id="w", metadata_db_url=database) as worker:
        [(before,)] = sql("SELECT heartbeat_at FROM workers")
        eventually(lambda: sql("SELECT heartbeat_at > %s + interval '1.5 s' FROM workers", before)[0][0])
        assert not worker.fenced
        assert not stopped(sql)
    assert stopped(sql)


def test_an_exception_in_the_block_reaches_the_program_and_the_stop_is_recorded(database: str, sql: Sql) -> None:
    with pytest.raises(ZeroDivisionError), Worker(node_id="w", metadata_db_url=database):
        _ = 1 / 0
    assert stopped(sql)


def test_a_node_id_that_is_held_raises_on_entering(database: str, caplog: pytest.LogCaptureFixture) -> None:
    second = Worker(node_id="w", metadata_db_url=database)
    with (
        Worker(node_id="w", metadata_db_url=database),
        pytest.raises(NodeIdTaken, match="node id 'w' is held by another worker process"),
        second,
    ):
        pytest.fail("two workers under one node id")
    assert not second.fenced
    assert "no longer sends heartbeats" not in caplog.text


@pytest.mark.parametrize("end", [None, SystemExit(0), ZeroDivisionError()])
def test_fenced_out_cannot_be_missed(database: str, sql: Sql, end: BaseException | None) -> None:
    def work() -> None:
        with Worker(node_id="w", metadata_db_url=database) as worker:
            take_over(sql)
            eventually(lambda: worker.fenced)
            if end is not None:
                raise end

    with pytest.raises(FencedOut) as raised:
        work()
    assert raised.value.__context__ is end


def test_a_worker_that_is_replaced_just_before_its_stop_is_fenced_out(database: str, sql: Sql) -> None:
    with pytest.raises(FencedOut), Worker(node_id="w", metadata_db_url=database):
        take_over(sql)
    assert not stopped(sql)


def test_a_stop_that_finds_no_row_is_logged(
    database: str, sql: Sql, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A heartbeat would register the worker again.
    monkeypatch.setattr("amp_workers.worker.heartbeat.INTERVAL_SECONDS", 3600.0)
    with Worker(node_id="w", metadata_db_url=database):
        sql("DELETE FROM workers")
    assert "the stop of 'w' could not be recorded: its row was deleted" in caplog.text


def test_entering_waits_for_the_database(empty_database: str, caplog: pytest.LogCaptureFixture) -> None:
    entered = threading.Event()

    def work() -> None:
        with Worker(node_id="w", metadata_db_url=empty_database):
            entered.set()

    program = threading.Thread(target=work)
    program.start()
    eventually(lambda: "run `ampd migrate`" in caplog.text)
    assert not entered.is_set()
    upgrade(MetadataDbUrl.parse(empty_database))
    program.join(30)
    assert entered.is_set()


def test_entering_waits_no_longer_than_its_timeout() -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1/d"
    with pytest.raises(TimeoutError, match=r"worker 'w' did not register in \S+ within 0\.3 s") as raised:
        Worker(node_id="w", metadata_db_url=url, timeout=0.3).__enter__()
    assert "hunter2" not in str(raised.value)
    eventually(lambda: "heartbeat" not in [thread.name for thread in threading.enumerate()])


def test_entering_a_silent_server_waits_no_longer_than_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amp_workers.metadata_db.engine.CONNECT_TIMEOUT_SECONDS", 60)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d"
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            Worker(node_id="w", metadata_db_url=url, timeout=0.3).__enter__()
        assert time.monotonic() - started < 20
    eventually(lambda: "heartbeat" not in [thread.name for thread in threading.enumerate()])


BUSY = """
from amp_workers.worker import Heartbeat
start = Heartbeat.start
Heartbeat.start = lambda self, **calls: (start(self, **calls), time.sleep(60))
"""


@pytest.mark.parametrize("machine", ["", BUSY], ids=["waiting", "starting the thread"])
def test_a_worker_that_is_interrupted_on_entering_does_not_register_later(
    processes: Processes, empty_database: str, machine: str
) -> None:
    """The worker's thread may try to register before the thread that started it continues."""
    enter = "try: worker.__enter__()\nexcept KeyboardInterrupt: "
    report = "print('left:', 'heartbeat' in [each.name for each in threading.enumerate()])"
    code = PRELUDE + machine + enter + report
    program = processes.start("python", "-c", code, env={"AMP_METADATA_DB_URL": empty_database})
    program.says("run `ampd migrate`")
    program.signal(signal.SIGINT)
    assert program.wait() == 0
    assert "left: False" in program.output


def test_invalid_arguments_are_refused_at_once() -> None:
    with pytest.raises(InvalidNodeId, match="1-worker"):
        Worker(node_id="1-worker", metadata_db_url="postgresql://127.0.0.1/d")
    with pytest.raises(InvalidMetadataDbUrl):
        Worker(node_id="w", metadata_db_url="mysql://127.0.0.1/d")


def test_a_worker_keeps_the_programs_signal_handlers_and_mask(database: str) -> None:
    def state() -> list[object]:
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        return [*handlers, signal.pthread_sigmask(signal.SIG_BLOCK, [])]

    before = state()
    with Worker(node_id="w", metadata_db_url=database):
        assert state() == before
    assert state() == before


def test_a_program_that_was_frozen_handles_its_signals_in_its_main_thread(start: Start) -> None:
    """The kernel may deliver a signal to any thread that does not block it: one process alone could pass by luck."""
    handle = "[signal.signal(number, lambda *_: sys.exit(7)) for number in (1, 10, 15)]\n"
    work = "with Worker(node_id='{}', metadata_db_url=url): print('inside', flush=True); time.sleep(60)"
    started = [start(handle + work.format(f"w{index}")) for index in range(6)]
    for index, program in enumerate(started):
        program.says("inside")
        program.freeze()
        program.signal((signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM)[index % 3])
        program.signal(signal.SIGCONT)
    assert [program.wait() for program in started] == [7] * 6


WAIT = "while not os.path.exists('leave'): time.sleep(0.05)"


def test_a_stop_that_cannot_be_recorded_is_logged_and_raises_nothing(start: Start, sql: Sql, tmp_path: Path) -> None:
    program = start(f"with worker:\n print('inside', flush=True)\n {WAIT}\nprint('after')")
    program.says("inside")
    sql("ALTER TABLE workers RENAME TO gone")
    program.says("cannot send heartbeats")
    (tmp_path / "leave").touch()
    assert program.wait() == 0
    assert "after" in program.output
    assert "could not be recorded" in program.output


def test_a_program_that_is_killed_sends_no_more_heartbeats(start: Start, sql: Sql) -> None:
    program = start("with worker: print('inside', flush=True); time.sleep(60)")
    program.says("inside")
    program.signal(signal.SIGKILL)
    program.wait()
    again = start("with worker: print('inside', flush=True); time.sleep(60)")
    again.says("inside")


def test_a_program_that_never_leaves_the_block_can_end(start: Start, sql: Sql) -> None:
    assert start("worker.__enter__()").wait() == 0
    assert not stopped(sql)


def test_a_program_that_computes_all_the_time_sends_heartbeats(start: Start, sql: Sql) -> None:
    start("with worker:\n print('inside', flush=True)\n while True: pass").says("inside")
    [(before,)] = sql("SELECT heartbeat_at FROM workers")
    eventually(lambda: sql("SELECT heartbeat_at > %s + interval '1.5 s' FROM workers", before)[0][0])


def test_a_forked_process_sends_no_heartbeats(start: Start, sql: Sql, tmp_path: Path) -> None:
    fork = "child = os.fork()\n child or sys.exit()\n os.waitpid(child, 0)"
    program = start(f"with worker:\n {fork}\n print('child left', flush=True)\n {WAIT}")
    program.says("child left")
    sessions = sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
    before = sql("SELECT heartbeat_at FROM workers")
    eventually(lambda: sql("SELECT heartbeat_at FROM workers") != before)
    assert not stopped(sql)
    assert sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'ampd worker w'") == sessions
    (tmp_path / "leave").touch()
    assert program.wait() == 0
    assert stopped(sql)
    assert "cannot send heartbeats" not in program.output


def test_a_worker_that_is_entered_in_a_forked_process_records_its_stop_there(start: Start, sql: Sql) -> None:
    """As in a pre-forking server, which makes its objects before it forks."""
    fork = "child = os.fork()\nif child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    program = start(fork + "with worker: print('inside', flush=True)")
    assert program.wait() == 0
    assert "inside" in program.output
    assert stopped(sql)


def test_a_forked_process_does_not_raise_that_its_parent_is_fenced_out(start: Start, sql: Sql) -> None:
    # The fork waits until the thread has logged its message and ended. An earlier fork could copy a locked stderr.
    wait = "while 'heartbeat' in [thread.name for thread in threading.enumerate()]: time.sleep(0.05)"
    fork = f"print('inside', flush=True)\n {wait}\n assert worker.fenced\n child = os.fork()"
    program = start(f"with worker:\n {fork}\nprint('child left' if child == 0 else 'parent left')")
    program.says("inside")
    take_over(sql)
    assert program.wait() == 1
    program.says("child left")
    assert "parent left" not in program.output
