"""The end of a worker: on purpose, or as a failure that the database records."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil
import psycopg
import pytest

from amp_workers.metadata_db import ON_PURPOSE, Ending, MetadataDbUrl
from amp_workers.worker import Heartbeat, Worker
from amp_workers.worker.ending import ProgramEnd, StopRequests, ending_of_block
from tests.processes import Process, Processes, eventually
from tests.worker.rival import take_over

Sql = Callable[..., list[Any]]

ENDINGS = "SELECT info ->> 'failure', (info ->> 'exit_code')::int, info ? 'stopped_at' FROM workers ORDER BY id"

TERM, INT, HUP, QUIT, KILL, USR1 = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGQUIT, signal.SIGKILL, signal.SIGUSR1),
)


@pytest.mark.parametrize(
    ("status", "exit_code", "failure"),
    [
        (0, 0, None),
        (7, 7, "exit code 7"),
        (137, 137, "exit code 137"),
        (-KILL, 137, "killed by SIGKILL"),
        (-signal.SIGSEGV, 139, "killed by SIGSEGV"),
        (-TERM, 143, "killed by SIGTERM"),
        (-(signal.SIGRTMIN + 3), 128 + signal.SIGRTMIN + 3, f"killed by signal {signal.SIGRTMIN + 3}"),
    ],
)
def test_an_exit_without_a_signal_is_a_failure_unless_the_code_is_0(
    status: int, exit_code: int, failure: str | None
) -> None:
    assert StopRequests(8).judge(ProgramEnd.of_status(status, 100)) == Ending(exit_code, failure)


@pytest.mark.parametrize(
    ("requests", "status", "is_on_purpose"),
    [
        ([(TERM, 99)], 7, True),
        ([(TERM, 50)], 7, True),  # regardless of the duration
        ([(TERM, 50)], -KILL, True),
        ([(TERM, 100.1)], 7, True),  # a signal to the whole process group, which reaches the worker last
        ([(TERM, 101)], 7, False),  # the program had already exited
        ([(INT, 95)], 1, True),
        ([(INT, 91)], 1, False),
        ([(INT, 91)], -INT, True),
        ([(INT, 91)], -TERM, False),
        ([(HUP, 10), (HUP, 95)], 3, True),
        ([(HUP, 10)], -HUP, True),
        ([(HUP, 10)], -KILL, False),
        ([(INT, 95), (INT, 101)], 1, True),  # a second Ctrl-C after the program had ended
        ([(QUIT, 99)], -QUIT, True),
        ([(QUIT, 99)], -signal.SIGABRT, True),
        ([(USR1, 99)], -USR1, False),
        ([(HUP, 10), (TERM, 80)], -KILL, True),
    ],
)
def test_an_exit_after_a_stop_signal_is_on_purpose(
    requests: list[tuple[int, float]], status: int, *, is_on_purpose: bool
) -> None:
    asked = StopRequests(stop_timeout=8)
    for number, moment in requests:
        asked.add(number, moment)
    ending = asked.judge(ProgramEnd.of_status(status, 100))
    assert (ending.failure is None) == is_on_purpose
    assert ending.exit_code == (status if status >= 0 else 128 - status)


def test_signals_may_arrive_while_the_watchdog_ends_the_program() -> None:
    asked = StopRequests(stop_timeout=8)
    ends = threading.Event()

    def add_signals() -> None:
        while not ends.is_set():
            asked.add(INT, 99)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    adding = threading.Thread(target=add_signals)
    adding.start()
    try:
        assert all(asked.add_watchdog(99) for _ in range(2_000))
    finally:
        ends.set()
        adding.join()
        sys.setswitchinterval(before)


def test_an_ignored_signal_requests_no_stop() -> None:
    before = signal.signal(HUP, signal.SIG_IGN)
    try:
        asked = StopRequests(stop_timeout=8)
        asked.add(HUP, 99)
    finally:
        signal.signal(HUP, before)
    assert asked.judge(ProgramEnd.of_status(3, 100)).failure == "exit code 3"


class SecretError(ValueError):
    """An exception whose message contains a secret."""


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (None, ON_PURPOSE),
        (KeyboardInterrupt(), ON_PURPOSE),
        (SystemExit(), Ending(0)),
        (SystemExit(0), Ending(0)),
        (SystemExit(3), Ending(3, "exit code 3")),
        (SystemExit(-1), Ending(255, "exit code 255")),
        (SystemExit("hunter2"), Ending(1, "exit code 1")),
        (SecretError("hunter2"), Ending(None, "raised SecretError")),
        (ExceptionGroup("hunter2", [ValueError()]), Ending(None, "raised ExceptionGroup")),
        (GeneratorExit(), Ending(None, "raised GeneratorExit")),
    ],
)
def test_an_exception_that_leaves_the_block_is_a_failure(error: BaseException | None, ending: Ending) -> None:
    assert ending_of_block(error) == ending


def test_an_exception_is_recorded_by_its_type_and_the_next_registration_removes_it(
    database: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SecretError), Worker(node_id="w", metadata_db_url=database):
        raise SecretError("hunter2")
    assert sql(ENDINGS) == [("raised SecretError", None, True)]
    [logged] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert logged.getMessage() == "'w' failed: raised SecretError"
    assert "hunter2" not in caplog.text

    def exit_with_a_text() -> None:
        with Worker(node_id="w", metadata_db_url=database):
            assert sql(ENDINGS) == [(None, None, False)]
            sys.exit("hunter2")

    with pytest.raises(SystemExit):
        exit_with_a_text()
    assert sql(ENDINGS) == [("exit code 1", 1, True)]
    with Worker(node_id="w", metadata_db_url=database):
        pass
    assert sql(ENDINGS) == [(None, None, True)]


@pytest.fixture
def slow_registration(database: str, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """A transaction for which each registration waits. No statement of this process times out meanwhile."""
    for module in ("heartbeat", "takeover"):
        monkeypatch.setattr(f"amp_workers.worker.{module}.BEAT_TIMEOUT_SECONDS", 60.0)
    with psycopg.connect(database) as holder:
        holder.execute("LOCK TABLE workers IN SHARE MODE")
        yield holder


WAITS = "SELECT 1 FROM pg_locks WHERE relation = 'workers'::regclass AND NOT granted"


@pytest.mark.slow
def test_a_registration_that_succeeds_after_the_timeout_is_recorded_as_a_failure(
    slow_registration: psycopg.Connection, database: str, sql: Sql
) -> None:
    with pytest.raises(TimeoutError):
        Worker(node_id="w", metadata_db_url=database, timeout=4).__enter__()
    assert sql(WAITS) == [(1,)]
    slow_registration.commit()
    eventually(lambda: sql(ENDINGS) == [("raised TimeoutError", None, True)])


@pytest.mark.slow
def test_a_program_that_a_signal_handler_exits_while_it_registers_is_recorded_as_a_failure(
    slow_registration: psycopg.Connection, database: str, sql: Sql
) -> None:
    def register_late(*_: object) -> NoReturn:
        slow_registration.commit()
        sys.exit(3)

    def interrupt() -> None:
        eventually(lambda: sql(WAITS) == [(1,)])
        os.kill(os.getpid(), USR1)

    before = signal.signal(USR1, register_late)
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        with pytest.raises(SystemExit), Worker(node_id="w", metadata_db_url=database):
            pytest.fail("entered")
    finally:
        interrupting.join()
        signal.signal(USR1, before)
    assert sql(ENDINGS) == [("exit code 3", 3, True)]


def test_a_failure_is_recorded_whatever_the_row_holds(database: str, sql: Sql) -> None:
    def fail() -> None:
        with Worker(node_id="w", metadata_db_url=database):
            sql("UPDATE workers SET info = '[1]'")
            raise SecretError

    with pytest.raises(SecretError):
        fail()
    assert sql(ENDINGS) == [("raised SecretError", None, True)]


@pytest.fixture
def start(processes: Processes, database: str) -> Callable[..., Process]:
    """Start a worker with a program: `start("w", "sh", "-c", "…")`."""

    def start_worker(node_id: str, *command: str, stop_timeout: int = 8) -> Process:
        options = [f"--node-id={node_id}", f"--stop-timeout={stop_timeout}"]
        return processes.ampd("worker", *options, "--", *command, database=database)

    return start_worker


def test_the_end_of_a_program_is_recorded(start: Callable[..., Process], sql: Sql, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    ends = {
        "exit-0": (["true"], 0, None),
        "exit-7": (["sh", "-c", "exit 7"], 7, "exit code 7"),
        "exit-127": (["sh", "-c", "no-such-program"], 127, "exit code 127"),
        "killed": (["sh", "-c", "kill -KILL $$"], 137, "killed by SIGKILL"),
        "missing": (["no-such-program"], 127, "not found"),
        "no-program": ([str(tmp_path / "data")], 126, "cannot be run"),
    }
    workers = {node_id: start(node_id, *command) for node_id, (command, _, _) in ends.items()}
    for node_id, worker in workers.items():
        _, exit_code, failure = ends[node_id]
        assert worker.wait() == exit_code
        assert (f"level=error component=worker msg=\"'{node_id}' failed: {failure}\"" in worker.output) == bool(failure)
        assert (" failed: " in worker.output) == bool(failure)
    found = {row[0]: row[1:] for row in sql(ENDINGS.replace("SELECT", "SELECT node_id,"))}
    assert found == {node_id: (failure, code, True) for node_id, (_, code, failure) in ends.items()}


DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
RELOADS = "trap 'echo reloaded' HUP; echo ready; while :; do sleep 0.05; done"


def test_a_program_that_is_killed_after_sigterm_ended_on_purpose(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w", "sh", "-c", DEAF, stop_timeout=0)
    worker.says("ready")
    assert worker.stop() == 137
    assert sql(ENDINGS) == [(None, 137, True)]
    assert "failed" not in worker.output


@pytest.mark.slow
def test_a_program_that_is_killed_long_after_it_reloaded_failed(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w", "sh", "-c", RELOADS, stop_timeout=0)
    worker.says("ready")
    worker.signal(HUP)
    worker.says("reloaded")
    time.sleep(1)
    [guard] = psutil.Process(worker.pid).children()
    guard.children()[0].kill()
    assert worker.wait() == 137
    assert sql(ENDINGS) == [("killed by SIGKILL", 137, True)]


def test_a_program_that_dies_with_its_guard_failed(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w", "sh", "-c", DEAF)
    worker.says("ready")
    psutil.Process(worker.pid).children()[0].kill()
    assert worker.wait() == 137
    assert sql(ENDINGS) == [("killed by SIGKILL", 137, True)]


@pytest.mark.slow
def test_a_worker_that_was_fenced_out_records_no_failure(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w", "sh", "-c", "echo ready; exec sleep 60")
    worker.says("ready")
    take_over(sql)
    assert worker.wait() == 3
    assert sql(ENDINGS) == [(None, None, False)]
    assert "failed" not in worker.output


@pytest.mark.slow
def test_a_failure_in_an_outage_is_recorded_once_the_database_is_available(database: str, sql: Sql) -> None:
    heartbeat = Heartbeat(MetadataDbUrl.parse(database), "w", {})
    registered = threading.Event()
    heartbeat.start(registered=registered.set)
    assert registered.wait(30)
    sql("ALTER TABLE workers RENAME TO gone")
    ending = threading.Timer(1.5, lambda: sql("ALTER TABLE gone RENAME TO workers"))
    ending.start()
    assert heartbeat.finish(Ending(7, "exit code 7"))
    ending.join()
    assert sql(ENDINGS) == [("exit code 7", 7, True)]


@pytest.mark.slow
def test_a_failure_that_cannot_be_recorded_is_not_recorded_as_a_stop(
    start: Callable[..., Process], sql: Sql, tmp_path: Path
) -> None:
    worker = start("w", "sh", "-c", "echo ready; until [ -e end ]; do sleep 0.05; done; exit 7")
    worker.says("ready")
    sql("ALTER TABLE workers RENAME TO gone")
    (tmp_path / "end").touch()
    assert worker.wait() == 7
    assert "could not be recorded: " in worker.output
    sql("ALTER TABLE gone RENAME TO workers")
    assert sql(ENDINGS) == [(None, None, False)]
