"""Notifications of the service manager, received on a socket as systemd's."""

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count, pairwise
from pathlib import Path

import psutil
import psycopg
import pytest

from amp_workers.ampd.systemd import ServiceManager
from tests.processes import Process, Processes, eventually, free_port, freeze, get

pytestmark = pytest.mark.slow

WATCHDOG_SECONDS = 2.0

_SO_TIMESTAMP = 29
"""Python does not define this constant. The kernel adds the time at which each message was sent."""

_numbers = count(1)

UNREACHABLE = "postgresql://u:hunter2@127.0.0.1:1/d"


class Systemd:
    """The receiving end of a notification socket, as systemd has it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMP, 1)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self.messages: list[str] = []
        self.senders: set[int] = set()
        self.signs_of_life: list[float] = []
        """When each notification was sent, however late the test reads it."""

    @property
    def environment(self) -> Mapping[str, str]:
        return {"NOTIFY_SOCKET": self._address, "WATCHDOG_USEC": str(round(WATCHDOG_SECONDS * 1e6))}

    def hear(self) -> str:
        """Return all messages that have arrived so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12) + socket.CMSG_SPACE(16))
                self.messages.append(data.decode())
                control = {kind: content for _, kind, content in ancillary}
                self.senders.add(int.from_bytes(control[socket.SCM_CREDENTIALS][:4], "little"))
                if "WATCHDOG=1" in self.messages[-1]:
                    seconds, microseconds = struct.unpack("@ll", control[_SO_TIMESTAMP])
                    self.signs_of_life.append(seconds + microseconds / 1e6)
        return "\n\n".join(self.messages)

    def hears(self, *texts: str, seconds: float = 30.0) -> None:
        """Wait for one message that contains all of these."""

        def look() -> bool:
            self.hear()
            assert any(all(text in message for text in texts) for message in self.messages), self.messages
            return True

        eventually(look, seconds)

    def forget(self) -> None:
        self.hear()
        self.messages.clear()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(open_directory: Path) -> Iterator[Systemd]:
    listener = Systemd(str(open_directory / f"notify-{os.getpid()}-{next(_numbers)}"))
    yield listener
    listener.close()


def silence(systemd: Systemd) -> bool:
    """Return whether a whole watchdog period passes without a notification, within two periods from now."""
    systemd.forget()
    systemd.signs_of_life.clear()
    began = time.time()
    while True:
        now = time.time()
        systemd.hear()
        moments = [began, *(sign for sign in systemd.signs_of_life if sign < now), now]
        if any(after - before > WATCHDOG_SECONDS for before, after in pairwise(moments)):
            return True
        if now > began + 2 * WATCHDOG_SECONDS:
            return False
        time.sleep(0.05)


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    freeze(pid)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_worker_is_ready_after_registration_and_notifies_the_watchdog(
    processes: Processes, database: str, systemd: Systemd, sql: Callable[..., list[object]]
) -> None:
    worker = processes.ampd("worker", "--node-id=w", database=database, env=systemd.environment)
    systemd.hears("READY=1", "STATUS=sends heartbeats since 20", "WATCHDOG=1")
    assert sql("SELECT node_id FROM workers") == [("w",)]
    systemd.forget()
    systemd.hears("WATCHDOG=1")
    with suspended(worker.pid):
        assert silence(systemd)
    systemd.hears("WATCHDOG=1")
    assert worker.stop() == 0
    systemd.hears("STOPPING=1")
    assert systemd.senders == {worker.pid}


def test_a_worker_whose_loop_hangs_does_not_notify_the_watchdog(
    processes: Processes, database: str, systemd: Systemd
) -> None:
    """Its other threads continue, but only the heartbeat loop notifies the watchdog."""
    worker = processes.ampd("worker", "--node-id=w", database=database, env=systemd.environment)
    systemd.hears("STATUS=sends heartbeats")
    with psycopg.connect(database) as holder:
        # A blocked heartbeat is abandoned after 3 s and retried later: each attempt takes longer than the period.
        holder.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
        assert silence(systemd)
        assert worker.popen.poll() is None
        systemd.hears("STATUS=cannot send heartbeats since 20", "did not answer", "WATCHDOG=1")
    systemd.hears("STATUS=sends heartbeats since 20")


def test_a_worker_is_ready_while_the_metadata_db_is_unavailable(processes: Processes, systemd: Systemd) -> None:
    worker = processes.ampd("worker", "--node-id=w", database=UNREACHABLE, env=systemd.environment)
    systemd.hears(
        "READY=1", "STATUS=cannot send heartbeats since 20", "the metadata DB cannot be reached", "WATCHDOG=1"
    )
    for _ in range(2):
        systemd.forget()
        systemd.hears("STATUS=cannot send heartbeats since 20", "WATCHDOG=1")
    with suspended(worker.pid):
        assert silence(systemd)
    assert worker.stop() == 0
    assert "hunter2" not in systemd.hear()


def test_a_worker_reports_that_its_table_lost_a_column(
    processes: Processes, database: str, systemd: Systemd, sql: Callable[..., list[object]]
) -> None:
    processes.ampd("worker", "--node-id=w", database=database, env=systemd.environment)
    systemd.hears("STATUS=sends heartbeats")
    sql("ALTER TABLE workers RENAME info TO other")
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
    systemd.hears("STATUS=cannot send heartbeats since 20", "it lacks info", "WATCHDOG=1")
    sql("ALTER TABLE workers RENAME other TO info")
    systemd.forget()
    systemd.hears("STATUS=sends heartbeats since 20")


def test_a_worker_whose_node_id_is_taken_is_never_ready(processes: Processes, database: str, systemd: Systemd) -> None:
    processes.ampd("worker", "--node-id=w", database=database).says("registered")
    assert processes.ampd("worker", "--node-id=w", database=database, env=systemd.environment).wait(30) == 1
    assert "READY=1" not in systemd.hear()


def test_a_program_does_not_get_the_notification_socket(processes: Processes, database: str, systemd: Systemd) -> None:
    program = ["sh", "-c", "env; systemd-notify --status='block 7' MAINPID=1; exec sleep 100"]
    worker = processes.ampd("worker", "--node-id=w", "--", *program, database=database, env=systemd.environment)
    worker.says("AMP_NODE_ID=w")
    systemd.hears("READY=1", "WATCHDOG=1")
    systemd.hears("STATUS=sends heartbeats since 20", "; block 7")
    assert worker.stop() == 128 + signal.SIGTERM
    systemd.hears("STOPPING=1")
    assert systemd.senders == {worker.pid}
    assert "MAINPID" not in systemd.hear()
    assert systemd.environment["NOTIFY_SOCKET"] not in worker.output
    assert "WATCHDOG_USEC" not in worker.output


@pytest.fixture(params=["admin", "exporter"])
def server(request: pytest.FixtureRequest, processes: Processes, systemd: Systemd) -> Process:
    """A server that notifies systemd, without a database."""
    port = free_port()
    arguments = (request.param, "--web.listen-address", f"0.0.0.0:{port}")
    started = processes.ampd(*arguments, database=UNREACHABLE, env=systemd.environment)
    systemd.hears("READY=1", "STATUS=serves since 20", "WATCHDOG=1")
    # No wait is needed: a process that waits for readiness may send requests.
    assert get(f"http://127.0.0.1:{port}/-/healthy") == "OK\n"
    return started


def test_a_server_is_ready_when_it_answers_and_stops(server: Process, systemd: Systemd) -> None:
    systemd.forget()
    systemd.hears("WATCHDOG=1")
    assert server.stop() == 0
    systemd.hears("STOPPING=1")
    assert systemd.senders == {server.pid}


def test_a_server_that_hangs_does_not_notify_the_watchdog(server: Process, systemd: Systemd) -> None:
    with suspended(server.pid):  # the kernel still accepts connections for the frozen server
        assert silence(systemd)
    systemd.forget()
    systemd.hears("WATCHDOG=1")


def test_a_manager_that_hangs_blocks_no_heartbeat(processes: Processes, database: str, open_directory: Path) -> None:
    """The manager's socket is full, and the worker continues."""
    full = Systemd(str(open_directory / f"full-{os.getpid()}"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer, contextlib.suppress(BlockingIOError):
        peer.setblocking(False)
        while True:
            peer.sendto(b"x", full.environment["NOTIFY_SOCKET"])
    env = {**full.environment, "AMP_LOG": "debug"}
    worker = processes.ampd("worker", "--node-id=w", database=database, env=env)
    worker.says("'w' sent a heartbeat", times=2)
    full.forget()
    full.hears("READY=1")
    assert worker.stop() == 0
    full.close()


def test_a_worker_without_a_free_descriptor_sends_heartbeats(
    processes: Processes, database: str, systemd: Systemd
) -> None:
    env = {**systemd.environment, "AMP_LOG": "debug"}
    worker = processes.ampd("worker", "--node-id=w", database=database, env=env)
    worker.says("'w' sent a heartbeat")
    process = psutil.Process(worker.pid)
    soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (3, hard))  # it has the session with the metadata DB already
    assert silence(systemd)
    worker.says("'w' sent a heartbeat", times=worker.output.count("'w' sent a heartbeat") + 2)
    process.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    systemd.forget()
    systemd.hears("WATCHDOG=1")
    assert worker.stop() == 0


def test_the_watchdog_of_another_process_is_not_notified(systemd: Systemd) -> None:
    environ = {**systemd.environment, "WATCHDOG_PID": str(os.getpid() + 1)}
    manager = ServiceManager(environ)
    assert environ == {}
    manager.alive("works")
    time.sleep(WATCHDOG_SECONDS / 2)
    manager.alive("works")
    assert systemd.hear().count("WATCHDOG=1") == 1


def test_a_socket_in_the_abstract_namespace_is_notified() -> None:
    listener = Systemd(f"@amp-test/notify-{os.getpid()}")
    ServiceManager({**listener.environment}).stopping()
    assert listener.hear() == "STOPPING=1\nSTATUS=stops"
    listener.close()


def test_a_message_that_failed_is_retried(open_directory: Path) -> None:
    address = str(open_directory / f"late-{os.getpid()}")
    manager = ServiceManager({"NOTIFY_SOCKET": address})
    manager.alive("works")
    listener = Systemd(address)
    manager.alive("works")
    manager.alive("works")
    assert listener.hear().count("READY=1") == 1
    listener.close()


def test_nothing_is_sent_after_the_stop(systemd: Systemd) -> None:
    manager = ServiceManager({**systemd.environment})
    manager.stopping()
    manager.alive("works")
    assert systemd.hear() == "STOPPING=1\nSTATUS=stops"


def test_what_a_program_reports_is_passed_on_once_a_second_at_most(systemd: Systemd) -> None:
    manager = ServiceManager({**systemd.environment})
    started = time.monotonic()
    for number in range(100):
        manager.alive("works", of_program=f"block {number}")
    assert systemd.hear().count("; block ") <= 1 + time.monotonic() - started
    assert "STATUS=works since 20" in systemd.hear()


@pytest.mark.parametrize("separator", ["\n", "\r", "\0", "\x0b", "\x1b", "\x85", "\u2028", "\ud800"])
def test_the_text_of_a_program_cannot_add_a_line_to_the_message(systemd: Systemd, separator: str) -> None:
    ServiceManager({**systemd.environment}).alive("works", of_program=f"block 7{separator}WATCHDOG=trigger")
    message = systemd.hear()
    assert message.startswith("READY=1\nWATCHDOG=1\nSTATUS=works since 20")
    assert message.endswith("; block 7?WATCHDOG=trigger")


def test_without_a_manager_nothing_is_sent() -> None:
    manager = ServiceManager({})
    manager.alive("works")
    with manager.watching(lambda _: True):
        pass
