"""`ampd worker` as a process, against a real PostgreSQL."""

import re
import signal
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import pytest

from tests.conftest import Insert
from tests.node_ids import INVALID
from tests.processes import Process, Processes, eventually, frozen
from tests.worker.history import keep_history
from tests.worker.rival import take_over

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]


@pytest.fixture
def start(processes: Processes, database: str) -> Callable[..., Process]:
    """Start a worker: `start("w")`."""

    def start_worker(node_id: str, **env: str) -> Process:
        return processes.ampd("worker", "--node-id", node_id, database=database, env=env)

    return start_worker


def last_heartbeat(sql: Sql) -> datetime:
    moment: datetime = sql("SELECT heartbeat_at FROM workers")[0][0]
    return moment


def test_registers_sends_heartbeats_and_records_its_stop(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w", AMP_BUILD_VERSION="v9")
    worker.says("registered as 'w'")
    before = last_heartbeat(sql)
    eventually(lambda: (last_heartbeat(sql) - before).total_seconds() > 1.5)
    assert worker.stop() == 0
    info = sql("SELECT info FROM workers")[0][0]
    assert info["version"] == "v9"
    assert "stopped_at" in info
    # One line per change of state: registered, stopped.
    assert len(worker.output.splitlines()) == 2, worker.output
    assert "msg=\"'w' stopped\"" in worker.output


def history(sql: Sql) -> list[datetime]:
    return [row[0] for row in sql("SELECT heartbeat_at FROM history ORDER BY id")]


def test_heartbeats_are_sent_every_second_however_long_each_takes(start: Callable[..., Process], sql: Sql) -> None:
    keep_history(sql)
    sql("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END'")
    sql("CREATE TRIGGER slow BEFORE UPDATE ON workers FOR EACH ROW EXECUTE FUNCTION slow()")
    start("w").says("registered")

    def on_schedule() -> bool:
        """Whether any eight successive heartbeats were on schedule. A busy machine may delay one heartbeat, but not
        all.
        """
        moments = history(sql)[1:]
        paces = [(last - first).total_seconds() / 7 for first, last in zip(moments, moments[7:], strict=False)]
        assert pytest.approx(1.0, abs=0.05) in paces, paces
        return True

    eventually(on_schedule, 60)


def test_a_pause_is_followed_by_one_heartbeat_and_not_by_a_burst(start: Callable[..., Process], sql: Sql) -> None:
    keep_history(sql)
    worker = start("w")
    worker.says("registered")
    with frozen(worker.pid):
        time.sleep(6)
        sql("TRUNCATE history")
    # The first heartbeat follows at once, the second at the next full second, which may be shortly afterwards.
    eventually(lambda: len(history(sql)) >= 4)
    first, _, _, fourth = history(sql)[:4]
    # Two to three seconds, minus the delay of the first heartbeat on a busy machine.
    assert (fourth - first).total_seconds() > 1


@pytest.mark.parametrize("node_id", [*INVALID.values()], ids=INVALID.keys())
def test_an_invalid_node_id_is_wrong_usage(processes: Processes, database: str, node_id: str) -> None:
    worker = processes.ampd("worker", f"--node-id={node_id}", database=database)
    assert worker.wait() == 2
    shown = node_id[:20].encode("unicode_escape").decode() if not node_id.isprintable() else node_id[:20]
    assert "node id" in worker.output
    assert shown in worker.output


def test_a_node_id_that_is_held_is_refused_by_name(start: Callable[..., Process], sql: Sql) -> None:
    first = start("w")
    first.says("registered")
    second = start("w")
    assert second.wait() == 1
    assert "node id 'w' is held by another worker process, which registered at" in second.output
    assert "Traceback" not in second.output
    assert first.stop() == 0


def test_a_node_id_is_free_again_after_kill(start: Callable[..., Process], sql: Sql) -> None:
    first = start("w")
    first.says("registered")
    first.signal(signal.SIGKILL)
    first.wait()
    [(last,)] = sql("SELECT heartbeat_at FROM workers")
    start("w").says("registered")
    # Not earlier: until then, the worker could be one that lost only its session.
    assert sql("SELECT extract(epoch FROM registered_at - %s) FROM workers", last)[0][0] > 5


@pytest.mark.parametrize("age", [60, -86_400], ids=["of a minute ago", "of the future"])
def test_the_node_id_of_a_silent_worker_is_taken_over(
    start: Callable[..., Process], insert_worker: Insert, age: float
) -> None:
    """The worker first watches the node id, whatever its age: the database's clock may have been set."""
    insert_worker("w", age)
    worker = start("w")
    worker.says("registered")
    assert "takeover after 5 s without a heartbeat" in worker.output


def test_a_node_id_is_free_again_at_once_after_a_stop(start: Callable[..., Process], sql: Sql) -> None:
    first = start("w")
    first.says("registered")
    assert first.stop() == 0
    second = start("w")
    second.says("registered")
    assert "takeover after" not in second.output


def test_a_second_sigterm_does_not_hold_up_the_first(start: Callable[..., Process]) -> None:
    workers = [start(f"w{number}") for number in range(8)]
    for worker in workers:
        worker.says("registered")
    for worker in workers:
        for _ in range(20):
            worker.signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0] * len(workers)


@pytest.mark.parametrize("age", ["1 day", "-1 day"], ids=["older", "newer"])
def test_another_registration_does_not_count_while_the_lock_is_held(
    start: Callable[..., Process], sql: Sql, age: str
) -> None:
    """A restored backup contains such a registration, and a refused process of Amp's leaves one."""
    worker = start("w")
    worker.says("registered")
    sql("UPDATE workers SET registered_at = registered_at - %s::interval, info = '{}'", age)
    worker.says("and does not hold its lock: registered again")
    [(registered_at, heartbeat_at, has_version)] = sql(
        "SELECT registered_at, heartbeat_at, info ? 'version' FROM workers"
    )
    assert has_version
    eventually(lambda: last_heartbeat(sql) > heartbeat_at)
    assert sql("SELECT registered_at FROM workers") == [(registered_at,)]
    assert worker.stop() == 0


@pytest.mark.parametrize("info", ["{}", '{"stopped_at": "2025-01-15T17:20:15Z"}'], ids=["running", "stopped"])
def test_another_registration_after_a_lost_session_does_not_count_without_lock_or_heartbeat(
    start: Callable[..., Process], sql: Sql, info: str
) -> None:
    worker = start("w")
    worker.says("registered")
    with frozen(worker.pid):
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
        sql("UPDATE workers SET registered_at = now(), heartbeat_at = now(), info = %s", info)
    worker.says("and does not hold its lock: registered again")
    worker.says("'w' sends heartbeats again after")
    assert worker.stop() == 0


def test_another_registration_that_sends_heartbeats_is_a_takeover(start: Callable[..., Process], sql: Sql) -> None:
    """The lock is free: the other process may send its heartbeats through a pooler."""
    worker = start("w")
    worker.says("registered")
    with frozen(worker.pid):
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
        sql("UPDATE workers SET registered_at = now()")

    def ended() -> bool:
        sql("UPDATE workers SET heartbeat_at = now()")
        return worker.popen.poll() is not None

    eventually(ended)
    assert worker.wait() == 3
    assert "node id 'w' was taken over by another worker process" in worker.output


def test_a_worker_that_was_taken_over_stops_at_once(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w")
    worker.says("registered")
    take_over(sql)
    assert worker.wait() == 3
    assert "node id 'w' was taken over by another worker process" in worker.output


CLOCK = """
CREATE TABLE clock (step interval);
INSERT INTO clock VALUES ('0');
CREATE FUNCTION now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT pg_catalog.now() + step FROM public.clock';
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql
    AS 'SELECT pg_catalog.clock_timestamp() + step FROM public.clock';
"""


@pytest.mark.parametrize("seconds", [40, -40], ids=["forward", "back"])
def test_a_step_of_the_databases_clock_ends_no_live_workers_session(
    start: Callable[..., Process], sql: Sql, seconds: int
) -> None:
    [(name,)] = sql("SELECT current_database()")
    for statement in CLOCK.split(";\n"):
        if statement.strip():
            sql(statement)
    sql(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
    first = start("w")
    first.says("registered")
    second = start("w")

    def step() -> bool:
        sql("UPDATE clock SET step = step + make_interval(secs => %s)", seconds)
        return second.popen.poll() is not None

    eventually(step)
    assert second.wait() == 1
    assert "is held by another worker process" in second.output
    assert "ending session" not in second.output
    # The worker's next session recognizes its own registration.
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
    sql("UPDATE clock SET step = step + make_interval(secs => %s)", seconds)
    first.says("'w' sends heartbeats again after")
    assert "registered again" not in first.output
    assert first.stop() == 0


def test_a_deleted_row_is_registered_again(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w")
    worker.says("registered")
    sql("DELETE FROM workers")
    worker.says("the row of 'w' was deleted: registered again")
    assert sql("SELECT node_id FROM workers") == [("w",)]


def test_an_ended_session_is_replaced(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w")
    worker.says("registered")
    registered_at = sql("SELECT registered_at FROM workers")
    last = last_heartbeat(sql)
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
    worker.says("'w' sends heartbeats again after")
    # The worker has sent a heartbeat by then.
    assert last_heartbeat(sql) > last
    assert sql("SELECT registered_at FROM workers") == registered_at
    assert worker.output.count("cannot send heartbeats") == 1


def test_each_outage_is_logged_with_its_own_length(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w")
    worker.says("registered")

    def outage(number: int) -> None:
        last = last_heartbeat(sql)
        began = time.monotonic()
        eventually(lambda: last_heartbeat(sql) > last)
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
        worker.says("'w' sends heartbeats again after", times=number)
        silences = re.findall(r"'w' sends heartbeats again after (\d+\.\d) s", worker.output)
        assert float(silences[-1]) < time.monotonic() - began + 0.1

    outage(1)
    outage(2)


def test_a_worker_waits_for_a_database_that_is_unavailable_at_the_start(
    processes: Processes, empty_database: str
) -> None:
    from amp_workers.metadata_db import MetadataDbUrl
    from amp_workers.metadata_db.migrate import upgrade

    worker = processes.ampd("worker", "--node-id=w", database=empty_database)
    worker.says("run `ampd migrate`")
    time.sleep(3)
    assert worker.output.count("cannot send heartbeats") == 1
    upgrade(MetadataDbUrl.parse(empty_database))
    worker.says("registered as 'w'")
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT count(*) FROM workers").fetchone() == (1,)


def test_a_stop_that_cannot_be_recorded_is_logged(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w")
    worker.says("registered")
    sql("ALTER TABLE workers RENAME TO gone")
    worker.says("cannot send heartbeats")
    assert worker.stop() == 1
    assert "could not be recorded" in worker.output


def test_a_worker_that_never_registered_has_nothing_to_record(processes: Processes) -> None:
    worker = processes.ampd("worker", "--node-id=w", database="postgresql://u:hunter2@127.0.0.1:1/d")
    worker.says("the metadata DB cannot be reached")
    assert worker.stop() == 0
    assert "hunter2" not in worker.output
