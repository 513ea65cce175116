"""`ampd worker` as a process, against a real PostgreSQL."""

import signal
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from tests.node_ids import INVALID
from tests.processes import Process, Processes, eventually, frozen

Sql = Callable[..., list[Any]]


@pytest.fixture
def start(processes: Processes, database: str) -> Callable[..., Process]:
    """Start a worker: `start("w")`."""

    def start_worker(node_id: str, **env: str) -> Process:
        return processes.ampd("worker", "--node-id", node_id, database=database, env=env)

    return start_worker


def beats(sql: Sql) -> datetime:
    moment: datetime = sql("SELECT heartbeat_at FROM workers")[0][0]
    return moment


def test_registers_beats_and_records_its_stop(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w", AMP_BUILD_VERSION="v9")
    worker.says("registered as 'w'")
    before = beats(sql)
    eventually(lambda: (beats(sql) - before).total_seconds() > 1.5)
    assert worker.stop() == 0
    info = sql("SELECT info FROM workers")[0][0]
    assert info["version"] == "v9"
    assert "stopped_at" in info
    # One line a change of state: registered, stopped.
    assert len(worker.output.splitlines()) == 2, worker.output
    assert "msg=\"'w' stopped\"" in worker.output


def test_beats_every_second_without_drift(start: Callable[..., Process], sql: Sql) -> None:
    start("w").says("registered")
    seen: list[datetime] = []
    ends = time.monotonic() + 8
    while time.monotonic() < ends:
        moment = beats(sql)
        if moment not in seen:
            seen.append(moment)
        time.sleep(0.02)
    gaps = [(after - before).total_seconds() for before, after in pairwise(seen)]
    assert len(gaps) >= 6
    assert sum(gaps) / len(gaps) == pytest.approx(1.0, abs=0.05)


def test_a_pause_is_followed_by_one_beat_and_not_by_a_burst(
    start: Callable[..., Process], database: str, sql: Sql
) -> None:
    sql("CREATE TABLE history (heartbeat_at timestamptz)")
    sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO history VALUES (NEW.heartbeat_at); RETURN NEW; END $$"
    )
    sql("CREATE TRIGGER note AFTER UPDATE ON workers FOR EACH ROW EXECUTE FUNCTION note()")
    worker = start("w")
    worker.says("registered")
    with frozen(worker.pid):
        time.sleep(4)
        sql("TRUNCATE history")
    time.sleep(3.5)
    written = [row[0] for row in sql("SELECT heartbeat_at FROM history ORDER BY 1")]
    assert 3 <= len(written) <= 5
    assert all((after - before).total_seconds() > 0.2 for before, after in pairwise(written))


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
    assert "node id 'w' is held by another worker process; its last heartbeat is" in second.output
    assert "Traceback" not in second.output
    assert first.stop() == 0


def test_a_node_id_is_free_again_after_kill(start: Callable[..., Process], sql: Sql) -> None:
    first = start("w")
    first.says("registered")
    first.signal(signal.SIGKILL)
    first.wait()
    start("w").says("registered")


def test_one_that_was_taken_over_stops_at_once(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w")
    worker.says("registered")
    sql("UPDATE workers SET registered_at = now()")
    assert worker.wait() == 3
    assert "node id 'w' was taken over by another worker process" in worker.output


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
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ampd worker w'")
    worker.says("'w' beats after")
    assert sql("SELECT registered_at FROM workers") == registered_at
    assert worker.output.count("cannot beat") == 1


def test_a_database_that_is_not_there_at_the_start_is_waited_for(processes: Processes, empty_database: str) -> None:
    from metadata_db import MetadataDbUrl
    from metadata_db.migrate import upgrade

    worker = processes.ampd("worker", "--node-id=w", database=empty_database)
    worker.says("run `ampd migrate`")
    time.sleep(3)
    assert worker.output.count("cannot beat") == 1
    upgrade(MetadataDbUrl.parse(empty_database))
    worker.says("registered as 'w'")
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT count(*) FROM workers").fetchone() == (1,)


def test_a_stop_that_cannot_be_recorded_is_told(start: Callable[..., Process], sql: Sql) -> None:
    worker = start("w")
    worker.says("registered")
    sql("ALTER TABLE workers RENAME TO gone")
    worker.says("cannot beat")
    started = time.monotonic()
    assert worker.stop() == 1
    assert time.monotonic() - started < 5
    assert "which could not be recorded" in worker.output


def test_a_worker_that_never_registered_has_nothing_to_record(processes: Processes) -> None:
    worker = processes.ampd("worker", "--node-id=w", database="postgresql://u:hunter2@127.0.0.1:1/d")
    worker.says("the metadata DB cannot be reached")
    assert worker.stop() == 0
    assert "hunter2" not in worker.output
