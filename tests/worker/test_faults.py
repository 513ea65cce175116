"""Faults of a database and its network: the worker continues, and logs each change of its state once."""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from amp_workers.metadata_db import ON_PURPOSE, MetadataDbError, MetadataDbUrl
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.worker import Heartbeat, Worker
from tests.clusters import Clock, own_postgres
from tests.processes import Process, Processes, eventually
from tests.relay import Relay, socket_of
from tests.worker.history import keep_history

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]
MakeServer = Callable[[], EmbeddedPostgres]

_numbers = count(1)


@pytest.fixture
def make_server(open_directory: Path) -> Iterator[MakeServer]:
    """Start a PostgreSQL of the test's own, migrated."""
    with contextlib.ExitStack() as started:
        yield lambda: started.enter_context(own_postgres(open_directory / f"fault-{next(_numbers)}"))


@pytest.fixture
def relay(postgres: EmbeddedPostgres) -> Iterator[Relay]:
    made = Relay(socket_of(postgres))
    yield made
    made.close()


def behind(relay: Relay, database: str) -> str:
    name = database.rpartition("?")[0].rpartition("/")[2]
    return f"postgresql://postgres@127.0.0.1:{relay.port}/{name}"


def start_behind(relay: Relay, processes: Processes, database: str) -> Process:
    worker = processes.ampd("worker", "--node-id=w", database=behind(relay, database))
    worker.says("registered")
    return worker


def recovers(worker: Process, url: str) -> None:
    """Wait for a new heartbeat. The worker logs the end of the outage once."""
    worker.says("'w' sends heartbeats again after")
    with psycopg.connect(url, autocommit=True) as connection:
        heartbeats = "SELECT heartbeat_at FROM workers"
        [last] = connection.execute(heartbeats)
        eventually(lambda: connection.execute(heartbeats).fetchall() > [last])
    assert worker.popen.poll() is None
    assert worker.output.count("'w' sends heartbeats again after") == 1, worker.output


def is_logged_once(worker: Process) -> None:
    """Assert that the log has one warning, and at most one more for a late answer on a busy machine."""
    warnings = re.findall(r"level=warn (?!.* sends heartbeats again after ).*", worker.output)
    late = [each for each in warnings if "did not answer within" in each]
    assert len(late) <= 1, worker.output
    assert len(warnings) - len(late) == 1, worker.output


def test_a_server_that_is_down_for_a_while(processes: Processes, make_server: MakeServer) -> None:
    server = make_server()
    worker = processes.ampd("worker", "--node-id=w", database=server.url)
    worker.says("registered")
    server.stop(5)
    worker.says("cannot send heartbeats")
    time.sleep(4)
    server.launch()
    recovers(worker, server.url)
    is_logged_once(worker)


def test_a_failover_to_another_server_on_the_same_address(processes: Processes, make_server: MakeServer) -> None:
    """The second server has no session of the worker, no lock and, because its data is older, no registration."""
    first, second = make_server(), make_server()
    relay = Relay(socket_of(first))
    try:
        worker = start_behind(relay, processes, first.url)
        relay.target = socket_of(second)
        first.stop(5)
        worker.says("the row of 'w' was deleted: registered again")
        recovers(worker, second.url)
        # If the second server has the row, the worker continues with it.
        with psycopg.connect(second.url) as connection:
            registered_at = connection.execute("SELECT registered_at FROM workers").fetchone()
        relay.reset()
        worker.says("'w' sends heartbeats again after", times=2)
        with psycopg.connect(second.url) as connection:
            assert connection.execute("SELECT registered_at FROM workers").fetchone() == registered_at
    finally:
        relay.close()


def test_a_database_that_is_read_only(processes: Processes, make_server: MakeServer) -> None:
    server = make_server()
    worker = processes.ampd("worker", "--node-id=w", database=server.url)
    worker.says("registered")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        worker.says("the metadata DB refuses: cannot execute UPDATE in a read-only transaction")
        time.sleep(3)
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        connection.execute("SELECT pg_reload_conf()")
    recovers(worker, server.url)
    is_logged_once(worker)


def test_a_network_that_drops_packets_during_a_heartbeat(
    processes: Processes, database: str, relay: Relay, sql: Sql
) -> None:
    """The heartbeat is sent and gets no response. New connections fail too, until the network works again."""
    worker = start_behind(relay, processes, database)
    relay.open.clear()
    worker.says("the metadata DB did not answer within 3.0 s")
    time.sleep(4)
    relay.open.set()
    recovers(worker, database)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ampd worker w'"
    eventually(lambda: sql(sessions) == [(1,)])


@pytest.mark.parametrize("statement", [b"pg_attribute", b"pg_locks", b"INSERT INTO workers"])
def test_a_network_that_drops_packets_before_the_first_heartbeat(
    processes: Processes, database: str, relay: Relay, statement: bytes
) -> None:
    relay.freezes_at = statement
    worker = processes.ampd("worker", "--node-id=w", database=behind(relay, database))
    worker.says("the metadata DB did not answer within 3.0 s")
    relay.open.set()
    # The delayed packets arrive late, possibly with a registration of a process that sends no heartbeats.
    worker.says("registered as 'w'")


def test_a_stop_does_not_wait_for_connections_to_many_addresses(processes: Processes) -> None:
    """Each address would take CONNECT_TIMEOUT_SECONDS."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        hosts, ports = (",".join([each] * 20) for each in ("127.0.0.1", str(silent.getsockname()[1])))
        worker = processes.ampd("worker", "--node-id=w", database=f"postgresql://u@/d?host={hosts}&port={ports}")
        client, _ = silent.accept()
        with client:
            assert worker.stop(30) == 0


def test_a_stop_while_the_network_drops_all_packets(processes: Processes, database: str, relay: Relay) -> None:
    worker = start_behind(relay, processes, database)
    relay.open.clear()
    time.sleep(1.5)  # during a heartbeat
    assert worker.stop() == 1
    assert worker.output.count("the stop of 'w' could not be recorded") == 1


def test_an_abandoned_stop_is_not_logged_again(relay: Relay, database: str, caplog: pytest.LogCaptureFixture) -> None:
    """The program continues, and the worker's thread detects the abandoned stop later."""
    with Worker(node_id="w", metadata_db_url=behind(relay, database)):
        relay.open.clear()
        time.sleep(1.5)  # during a heartbeat
    line = "the stop of 'w' could not be recorded"
    assert caplog.text.count(line) == 1
    eventually(lambda: "heartbeat" not in [thread.name for thread in threading.enumerate()])
    assert caplog.text.count(line) == 1


def test_a_stop_after_an_outage_is_recorded(processes: Processes, make_server: MakeServer) -> None:
    server = make_server()
    worker = processes.ampd("worker", "--node-id=w", database=server.url)
    worker.says("registered")
    server.stop(5)
    worker.says("cannot send heartbeats")
    server.start(lambda _: None)
    assert worker.stop() == 0
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT info ? 'stopped_at' FROM workers").fetchone() == (True,)


def test_a_stop_during_an_outage_is_tried_once_more(database: str, sql: Sql) -> None:
    """The database is available again, but the worker has not reconnected yet."""
    ended = threading.Event()

    def turned(error: MetadataDbError | None) -> None:
        if error is None:
            sql("ALTER TABLE workers RENAME TO gone")
        else:
            sql("ALTER TABLE gone RENAME TO workers")
            heartbeat.stop(ON_PURPOSE)

    heartbeat = Heartbeat(MetadataDbUrl.parse(database), "w", {}, turned=turned)
    heartbeat.start(ended=ended.set)
    assert ended.wait(30)
    assert heartbeat.finish()
    assert sql("SELECT info ? 'stopped_at' FROM workers") == [(True,)]


def test_the_workers_own_clock_changes_nothing(processes: Processes, database: str, sql: Sql, tmp_path: Path) -> None:
    """The clock jumps ahead by a day, and then to a day behind, while the worker runs."""
    keep_history(sql)
    clock = Clock(tmp_path)
    clock.step("+1d")
    worker = processes.ampd(
        "worker",
        "--node-id=w",
        database=database,
        env=clock.environment | {"AMP_LOG": "debug"},
    )
    worker.says("'w' sent a heartbeat\"", times=3)
    clock.step("-1d")
    worker.says("'w' sent a heartbeat\"", times=6)
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
    worker.says("'w' sends heartbeats again after")
    assert worker.stop() == 0
    # The timestamps of the log show that the clock did jump.
    logged = [datetime.fromisoformat(line[3:27]) for line in worker.output.splitlines()]
    days = {round((moment - datetime.now(UTC)).total_seconds() / 86_400) for moment in logged}
    assert days == {1, -1}, worker.output
    moments = sql("SELECT heartbeat_at, arrived_at FROM history ORDER BY id")
    assert all(0 <= (arrived - beat).total_seconds() < 5 for beat, arrived in moments)
    gaps = [(after - before).total_seconds() for (before, _), (after, _) in pairwise(moments)]
    assert len(gaps) >= 7
    assert max(gaps) < 10
    stopped_at = json.loads(sql("SELECT (info -> 'stopped_at')::text FROM workers")[0][0])
    assert abs((datetime.fromisoformat(stopped_at) - datetime.now(UTC)).total_seconds()) < 60
