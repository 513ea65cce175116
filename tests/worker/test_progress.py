"""Progress that a worker reports: from a program through a socket, and from a Python program that embeds the worker."""

import array
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from amp_workers.ampd.worker import worker as run_worker
from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    MetadataDbUrl,
    Progress,
    connect,
    get_worker,
    single_engine,
)
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.metadata_db.migrate import upgrade
from amp_workers.worker import Heartbeat, ProgressReports, Worker
from amp_workers.worker.notify_socket import NotifySocket
from amp_workers.worker.progress import StuckWatch
from tests.clusters import own_postgres
from tests.conftest import fresh_database
from tests.pgbouncer import start_pgbouncer
from tests.processes import Process, Processes, eventually

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]

REPORTED = (
    "SELECT info ->> 'progress', info ? 'progress_at', info ->> 'watchdog_seconds', info ->> 'watchdog_triggered'"
)
REPORTED += " FROM workers"


def state(url: str) -> str:
    """Return the state of the only worker, as the Admin API and the exporter read it."""
    with connect(single_engine(MetadataDbUrl.parse(url), "test", statement_timeout=5), 5) as connection:
        worker = get_worker(connection, "w", DEFAULT_THRESHOLDS)
    assert worker is not None
    return worker["state"]


@pytest.fixture
def reports() -> ProgressReports:
    made = ProgressReports(10.0)
    made.begin()
    return made


@pytest.fixture
def listener(reports: ProgressReports, open_directory: Path) -> Iterator[NotifySocket]:
    made = NotifySocket(reports, {"TMPDIR": str(open_directory)})
    made.listen(None)
    yield made
    made.close()


def send(listener: NotifySocket, *messages: bytes) -> None:
    """Send datagrams, as a program does."""
    address = listener.address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.connect("\0" + address[1:] if address.startswith("@") else address)
        for message in messages:
            peer.send(message)


def flush(listener: NotifySocket) -> None:
    """Wait until the listener has received what was sent, as `systemd-notify` does."""
    ours, theirs = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.connect(listener.address)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs]))]
        peer.sendmsg([b"BARRIER=1"], rights)
    os.close(theirs)
    assert os.read(ours, 1) == b""
    os.close(ours)


@pytest.mark.parametrize(
    ("messages", "text", "is_advanced", "promise", "is_triggered"),
    [
        ([b"WATCHDOG=1"], None, True, 10.0, False),
        ([b"READY=1"], None, True, 10.0, False),
        ([b"STATUS=block 7"], "block 7", False, 10.0, False),
        ([b"STATUS=block 7", b"STATUS="], None, False, 10.0, False),
        ([b"STATUS=" + b"x" * 3000], "x" * 200, False, 10.0, False),
        ([b"STATUS=a=\xff\xe2\x82\xac"], "a=\ufffd\u20ac", False, 10.0, False),
        ([b"READY=1\nSTATUS=ready\nMAINPID=7\nWATCHDOG=1\n"], "ready", True, 10.0, False),
        ([b"READY=1\r\nSTATUS=ready\r\nWATCHDOG=1\r\n"], "ready", True, 10.0, False),
        ([b"STATUS=ready\rWATCHDOG=1\0"], "ready", True, 10.0, False),
        ([b"WATCHDOG=trigger"], None, False, 10.0, True),
        ([b"WATCHDOG=trigger", b"READY=1"], None, True, 10.0, True),
        ([b"WATCHDOG=trigger", b"WATCHDOG=1"], None, True, 10.0, False),
        ([b"STOPPING=1"], None, False, None, False),
        ([b"STOPPING=1", b"STATUS=tidies up"], "tidies up", True, None, False),
        ([b"", b"\0\0", b"=", b"WATCHDOG", b"WATCHDOG=0", b"watchdog=1", b"X" * 4096], None, False, 10.0, False),
        ([b"WATCHDOG=1\n" + b"X" * 100_000], None, False, 10.0, False),
        ([b"WATCHDOG=1\0\0", b"\0WATCHDOG=1", b"STATUS=a\0WATCHDOG=1"], None, False, 10.0, False),
    ],
)
def test_each_message_changes_its_part(
    listener: NotifySocket,
    reports: ProgressReports,
    messages: list[bytes],
    text: str | None,
    *,
    is_advanced: bool,
    promise: float | None,
    is_triggered: bool,
) -> None:
    before = reports.current.reported
    send(listener, *messages)
    flush(listener)
    found = reports.current
    assert found == Progress(text, found.reported, promise, is_triggered)
    assert (found.reported != before) == is_advanced


def test_without_a_promise_a_text_is_progress(open_directory: Path) -> None:
    reports = ProgressReports()
    reports.begin()
    assert reports.pending is None
    reports.describe("block 7")
    assert reports.current.reported is not None
    assert reports.current.watchdog_seconds is None


def test_a_flood_neither_stops_a_reader_nor_hides_a_report(listener: NotifySocket, reports: ProgressReports) -> None:
    ends = threading.Event()

    def flood() -> None:
        while not ends.is_set():
            send(listener, *[b"STATUS=flood"] * 100)

    flooding = threading.Thread(target=flood)
    flooding.start()
    before = reports.current.reported
    send(listener, b"WATCHDOG=1")
    eventually(lambda: reports.current.reported != before)
    ends.set()
    flooding.join(30)
    assert not flooding.is_alive()


def test_what_was_sent_before_the_end_is_received(reports: ProgressReports, open_directory: Path) -> None:
    listener = NotifySocket(reports, {"TMPDIR": str(open_directory)})
    directory = Path(listener.address).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    send(listener, b"STATUS=the last words")
    listener.listen(None)
    listener.close()
    assert reports.current.text == "the last words"
    assert not directory.exists()
    assert "notifications" not in {thread.name for thread in threading.enumerate()}


def test_messages_with_a_nul_byte_before_the_end_are_counted(
    reports: ProgressReports, open_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listener = NotifySocket(reports, {"TMPDIR": str(open_directory)})
    send(listener, b"WATCHDOG=trigger\0\0", b"STATUS=a\0WATCHDOG=trigger", b"WATCHDOG=1\0")
    listener.listen(None)
    listener.close()
    assert "ignored a message of the program: with a NUL byte before the end" in caplog.text
    assert "ignored 2 messages of the program: with a NUL byte before the end" in caplog.text
    assert reports.current.text is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_users_messages_are_ignored_and_counted(
    reports: ProgressReports, caplog: pytest.LogCaptureFixture
) -> None:
    listener = NotifySocket(reports, {"TMPDIR": "/nonexistent"})
    assert listener.address.startswith("@")
    listener.listen(None)
    # Two messages each: the report and the barrier.
    command = ["systemd-notify", "WATCHDOG=trigger"]
    for _ in range(2):
        subprocess.run(command, check=True, user=65534, cwd="/", env=os.environ | {"NOTIFY_SOCKET": listener.address})
    send(listener, b"STATUS=ours")
    eventually(lambda: reports.current.text == "ours")
    listener.close()
    assert not reports.current.is_triggered
    assert "ignored 4 messages of the program: user 65534 sent them" in caplog.text


def test_the_socket_is_in_a_directory_that_a_service_may_write(open_directory: Path, tmp_path: Path) -> None:
    runtime, temporary = open_directory / "run", open_directory / "tmp"
    for directory in (runtime, temporary):
        directory.mkdir(exist_ok=True)
    long = tmp_path / ("x" * 100)
    long.mkdir()
    for environ, start in (
        ({"RUNTIME_DIRECTORY": f"{runtime}:/other", "TMPDIR": str(temporary)}, str(runtime)),
        ({"RUNTIME_DIRECTORY": "/nonexistent", "TMPDIR": str(temporary)}, str(temporary)),
        ({"TMPDIR": str(temporary)}, str(temporary)),
        ({"TMPDIR": "/nonexistent"}, "@"),
        ({"TMPDIR": str(long)}, "@"),
    ):
        listener = NotifySocket(ProgressReports(), environ)
        assert listener.address.startswith(start)
        listener.listen(None)
        send(listener, b"READY=1")
        listener.close()
    assert not [*runtime.iterdir(), *temporary.iterdir(), *long.iterdir()]


def test_only_watched_silence_breaks_a_promise(reports: ProgressReports) -> None:
    watch = StuckWatch(reports)
    assert not watch.look(100.0)
    assert not watch.look(100_000.0)  # the process was frozen meanwhile
    assert not any(watch.look(100_000.0 + second) for second in range(1, 10))
    assert watch.look(100_010.0)
    reports.advance()
    assert not watch.look(100_011.0)
    reports.trigger()
    assert watch.look(100_012.0)


def test_progress_of_an_embedded_worker_travels_with_the_heartbeat(database: str, sql: Sql) -> None:
    with Worker(node_id="w", metadata_db_url=database, watchdog=30) as worker:
        eventually(lambda: sql(REPORTED) == [(None, True, "30", None)])
        eventually(lambda: state(database) == "active")
        worker.progress("block 7\0 of \ud800 €")
        eventually(lambda: sql(REPORTED) == [("block 7? of ? €", True, "30", None)])
        [(age,)] = sql(
            "SELECT extract(epoch FROM clock_timestamp() - (info ->> 'progress_at')::timestamptz) FROM workers"
        )
        assert 0 <= age < 20
        worker.progress()
        worker.progress("the last words")
    assert sql(REPORTED) == [("the last words", True, "30", None)]
    with Worker(node_id="w", metadata_db_url=database):
        assert sql("SELECT info - 'version' - 'commit_sha' - 'commit_timestamp' - 'build_date' FROM workers") == [({},)]


def test_progress_is_written_whatever_the_row_holds_and_keeps_other_keys(database: str, sql: Sql) -> None:
    with Worker(node_id="w", metadata_db_url=database) as worker:
        sql("UPDATE workers SET info = info || '{\"other\": [1]}'")
        worker.progress("one")
        eventually(lambda: sql("SELECT info -> 'progress', info -> 'other' FROM workers") == [("one", [1])])
        sql("UPDATE workers SET info = '7'")
        worker.progress("two")
        eventually(lambda: sql(REPORTED) == [("two", True, None, None)])


def test_progress_survives_a_registration_again(database: str, sql: Sql) -> None:
    with Worker(node_id="w", metadata_db_url=database, watchdog=30) as worker:
        worker.progress("block 7")
        eventually(lambda: sql(REPORTED)[0][0] == "block 7")
        sql("DELETE FROM workers")
        eventually(lambda: sql(REPORTED) == [("block 7", True, "30", None)])


def test_a_database_in_another_encoding_takes_what_it_can_store(postgres: EmbeddedPostgres) -> None:
    with fresh_database(postgres, "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'") as url:
        upgrade(MetadataDbUrl.parse(url))
        with Worker(node_id="w", metadata_db_url=url) as worker:
            worker.progress("block 7 of 日本")
        with psycopg.connect(url) as connection:
            assert connection.execute(REPORTED.encode()).fetchall() == [("block 7 of ??", True, None, None)]


def test_progress_that_waits_for_a_restart_of_the_database_is_written_after_it(open_directory: Path) -> None:
    def reported() -> list[tuple[object, ...]]:
        with psycopg.connect(server.url) as connection:
            return connection.execute(REPORTED.encode()).fetchall()

    with (
        own_postgres(open_directory / "restarted") as server,
        Worker(node_id="w", metadata_db_url=server.url, watchdog=600) as worker,
    ):
        worker.progress("before")
        eventually(lambda: reported() == [("before", True, "600", None)])
        server.stop(10)
        worker.progress("during")
        server.start(lambda _: None)
        eventually(lambda: reported() == [("during", True, "600", None)], 30)


def test_progress_goes_through_a_pooler(
    processes: Processes, postgres: EmbeddedPostgres, database: str, tmp_path: Path, sql: Sql
) -> None:
    port = start_pgbouncer(processes, postgres, tmp_path, pool_size=1)
    url = f"postgresql://postgres@127.0.0.1:{port}/{database.rpartition('?')[0].rpartition('/')[2]}"
    with Worker(node_id="w", metadata_db_url=url, watchdog=600) as worker:
        for text in ("it's \\'block 1'", "block 2 %s", "block 3"):
            worker.progress(text)
            eventually(lambda text=text: sql(REPORTED) == [(text, True, "600", None)])  # type: ignore[misc]
        worker.progress("the last words")
    assert sql(REPORTED) == [("the last words", True, "600", None)]


def test_progress_is_dated_by_the_databases_clock(database: str, sql: Sql) -> None:
    reports = ProgressReports()
    heartbeat = Heartbeat(MetadataDbUrl.parse(database), "w", {}, progress=reports)
    sql("ALTER TABLE workers RENAME TO gone")
    heartbeat.start()
    reports.describe("block 7")
    time.sleep(2)  # an outage
    sql("ALTER TABLE gone RENAME TO workers")
    eventually(lambda: sql(REPORTED) == [("block 7", True, None, None)])
    [(age,)] = sql("SELECT extract(epoch FROM registered_at - (info ->> 'progress_at')::timestamptz) FROM workers")
    assert 2 <= age < 20
    heartbeat.finish()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e7])
def test_an_impossible_promise_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="not a number of seconds from 0 to 1,000,000"):
        Worker(node_id="w", metadata_db_url="postgresql://127.0.0.1/d", watchdog=seconds)


def test_a_heartbeat_without_new_progress_changes_nothing_else(database: str, sql: Sql) -> None:
    heartbeats = threading.Semaphore(0)

    def turned(_: object) -> None:
        heartbeats.release()

    reports = ProgressReports(30.0)
    heartbeat = Heartbeat(MetadataDbUrl.parse(database), "w", {}, progress=reports, turned=turned)
    heartbeat.start(registered=reports.begin)
    eventually(lambda: sql(REPORTED) == [(None, True, "30", None)])
    sql("UPDATE workers SET info = '{}'")
    for _ in range(3):
        heartbeats.acquire()
    assert sql("SELECT info FROM workers") == [({},)]
    heartbeat.finish()


@pytest.fixture
def start(processes: Processes, database: str) -> Callable[..., Process]:
    """Start a worker with a program: `start("--watchdog=30", "--", "sh", "-c", "…")`."""
    return lambda *arguments, **env: processes.ampd("worker", "--node-id=w", *arguments, database=database, env=env)


def test_systemd_notify_in_a_shell_reports_without_delay(start: Callable[..., Process], sql: Sql) -> None:
    """`systemd-notify` waits until its report is received. After 5 s without that, its exit code is not 0."""
    script = (
        "systemd-notify --ready --status='block 7' && sh -c 'systemd-notify WATCHDOG=1' && echo sent; exec sleep 60"
    )
    worker = start(
        "--watchdog=30", "--", "sh", "-c", script, NOTIFY_SOCKET="/outer", WATCHDOG_PID="1", WATCHDOG_USEC="7"
    )
    worker.says("sent")
    eventually(lambda: sql(REPORTED) == [("block 7", True, "30", None)])
    assert worker.stop() == 143


NOTIFY = """
import os, sdnotify, sys, time
print(sorted(name for name in os.environ if name.startswith("WATCHDOG")), os.environ["WATCHDOG_USEC"], flush=True)
if os.fork() == 0:
    sdnotify.SystemdNotifier().notify("STATUS=from a grandchild\\nWATCHDOG=trigger")
    os._exit(0)
time.sleep(60)
"""


def test_a_grandchild_may_report_with_sdnotify(start: Callable[..., Process], sql: Sql, database: str) -> None:
    worker = start(
        "--watchdog=1.5s", "--", "sh", "-c", '"$@"; true', "sh", sys.executable, "-c", NOTIFY, WATCHDOG_PID="1"
    )
    worker.says("['WATCHDOG_USEC'] 1500000")
    eventually(lambda: sql(REPORTED) == [("from a grandchild", True, "1.5", "true")])
    eventually(lambda: state(database) == "stuck")


def test_a_program_that_hangs_before_its_first_report_is_stuck(
    start: Callable[..., Process], sql: Sql, database: str
) -> None:
    worker = start("--watchdog=3", "--", "sh", "-c", "exec sleep 60")
    worker.says("registered")
    eventually(lambda: state(database) == "stuck")
    assert worker.stop() == 143
    assert sql("SELECT info ? 'failure' FROM workers") == [(False,)]


HANGS = "trap 'echo aborted; exit 0' ABRT; echo ready; while :; do sleep 0.05; done"


def test_a_stuck_program_is_ended_if_the_option_is_set(start: Callable[..., Process], sql: Sql, database: str) -> None:
    worker = start("--watchdog=1", "--on-stuck=kill", "--", "sh", "-c", HANGS)
    assert worker.wait() == 128 + signal.SIGABRT
    assert "aborted" in worker.output
    assert "'sh' is stuck; ending it" in worker.output
    assert "'w' failed: watchdog" in worker.output
    assert sql("SELECT info ->> 'failure', info ->> 'exit_code' FROM workers") == [("watchdog", "134")]
    assert state(database) == "failed"


def test_the_promise_ends_with_the_program_and_not_with_what_it_left_behind(
    start: Callable[..., Process], sql: Sql, tmp_path: Path
) -> None:
    deaf = "trap '' TERM; touch ready; until [ -e end ]; do sleep 0.05; done"
    program = f"sh -c '{deaf.replace(chr(39), chr(34))}' & until [ -e ready ]; do sleep 0.05; done; exit 5"
    worker = start("--watchdog=3", "--on-stuck=kill", "--stop-timeout=60", "--", "sh", "-c", program)
    worker.says("left processes behind")
    eventually(lambda: sql(REPORTED) == [(None, True, None, None)])
    eventually(lambda: sql("SELECT heartbeat_at > registered_at + interval '5 s' FROM workers") == [(True,)])
    (tmp_path / "end").touch()
    assert worker.wait() == 5
    assert "stuck" not in worker.output
    assert sql("SELECT info ->> 'failure' FROM workers") == [("exit code 5",)]


def test_a_stuck_program_that_ignores_sigabrt_is_killed(start: Callable[..., Process], sql: Sql) -> None:
    hangs = HANGS.replace("echo aborted; exit 0", "")
    worker = start("--watchdog=1", "--on-stuck=kill", "--stop-timeout=1", "--", "sh", "-c", hangs)
    assert worker.wait() == 137
    assert sql("SELECT info ->> 'failure', info ->> 'exit_code' FROM workers") == [("watchdog", "137")]


def test_the_socket_of_a_worker_that_was_killed_is_removed_by_the_next(
    start: Callable[..., Process], open_directory: Path
) -> None:
    directory = open_directory / "leftovers"
    directory.mkdir()
    worker = start("--", "sh", "-c", "echo ready; exec sleep 60", TMPDIR=str(directory))
    worker.says("ready")
    [left] = directory.iterdir()
    worker.signal(signal.SIGKILL)
    worker.wait()
    worker = start("--", "sh", "-c", "echo ready; exec sleep 60", TMPDIR=str(directory))
    worker.says("ready")
    assert left not in directory.iterdir()
    assert worker.stop() == 143
    assert not [*directory.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--watchdog=10"], "--watchdog needs a COMMAND"),
        (["--on-stuck=kill", "--", "true"], "--on-stuck needs --watchdog"),
        (["--on-stuck=report"], "--on-stuck needs --watchdog"),
        (["--watchdog=0", "--", "true"], "is not between 0 and 1,000,000 s"),
        (["--watchdog=1000001", "--", "true"], "is not between 0 and 1,000,000 s"),
        (["--watchdog=soon", "--", "true"], "--watchdog"),
        (["--watchdog=10", "--on-stuck=restart", "--", "true"], "--on-stuck"),
    ],
)
def test_options_of_the_watchdog_that_contradict_each_other_are_wrong_usage(arguments: list[str], message: str) -> None:
    options = ["--node-id=w", "--metadata-db-url=postgresql://u@127.0.0.1:1/d"]
    done = CliRunner().invoke(run_worker, [*options, *arguments])
    assert (done.exit_code, message in done.output) == (2, True), done.output
