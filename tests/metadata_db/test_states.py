"""The state of a worker, its exit code, failure and progress, for any content of `info`."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from amp_workers.exporter.families import WORKER_INFO
from amp_workers.exporter.worker_families import WorkerFamilies
from amp_workers.metadata_db import (
    DEFAULT_THRESHOLDS,
    JobsLog,
    MetadataDbUrl,
    Reader,
    State,
    Worker,
    count_fleet,
    get_worker,
    list_workers,
    read_fleet,
)
from tests.conftest import Insert

Listed = Callable[[], dict[str, Worker]]


@pytest.fixture
def reader(database: str) -> Reader:
    return Reader(MetadataDbUrl.parse(database), "test", connections=1, statement_timeout=5)


@pytest.fixture
def listed(reader: Reader) -> Listed:
    def read() -> dict[str, Worker]:
        workers = reader.query(lambda connection: list_workers(connection, DEFAULT_THRESHOLDS), 5)
        return {worker["node_id"]: worker for worker in workers}

    return read


def at(age: float) -> str:
    """Stands for a timestamp of so many seconds ago, by the database's clock."""
    return f"<{age}>"


INSERT = """
INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at)
SELECT %s, clock_timestamp() - make_interval(secs => %s), coalesce((
    SELECT jsonb_object_agg(key, CASE WHEN value #>> '{}' ~ '^<.*>$'
        THEN to_jsonb(clock_timestamp() - make_interval(secs => trim('<>' FROM value #>> '{}')::float)) ELSE value END)
    FROM jsonb_each(%s)), '{}'), now(), now()
"""

STATES: list[tuple[str, float, dict[str, object]]] = [
    ("active", 0, {}),
    ("active", 4, {"watchdog_seconds": 10, "progress_at": at(9)}),
    ("active", -4, {}),
    ("stale", 20, {"watchdog_seconds": 10, "progress_at": at(9)}),
    ("stale", -20, {}),
    ("lost", 300, {"watchdog_seconds": 10, "progress_at": at(300)}),
    ("lost", -300, {}),
    ("lost", -200_000, {}),
    ("forgotten", 200_000, {}),
    ("stuck", 0, {"watchdog_seconds": 10, "progress_at": at(11)}),
    ("stuck", 0, {"watchdog_seconds": 10, "progress_at": at(-11)}),
    ("stuck", 0, {"watchdog_seconds": 0.5, "progress_at": at(1)}),
    ("stuck", 0, {"watchdog_seconds": 10}),
    ("stuck", 0, {"watchdog_triggered": True}),
    ("stuck", 0, {"watchdog_seconds": 10, "progress_at": at(0), "watchdog_triggered": True}),
    ("active", 0, {"progress_at": at(9000)}),
    ("active", 0, {"watchdog_triggered": False}),
    ("stopped", 0, {"stopped_at": at(0)}),
    ("stopped", 0, {"stopped_at": at(0), "exit_code": 0, "watchdog_seconds": 1, "progress_at": at(5)}),
    ("stopped", 300, {"stopped_at": at(300)}),
    ("failed", 0, {"stopped_at": at(0), "failure": "exit code 7"}),
    ("failed", 300, {"stopped_at": at(300), "failure": "killed by SIGKILL"}),
    ("forgotten", 0, {"stopped_at": at(90_000)}),
    ("forgotten", 0, {"stopped_at": at(90_000), "failure": "exit code 7"}),
    ("active", 0, {"failure": "exit code 7"}),
]


@pytest.mark.parametrize(("state", "age", "info"), STATES)
def test_state(state: str, age: float, info: dict[str, object], sql: Callable[..., list[Any]], listed: Listed) -> None:
    sql(INSERT, "w", age, json.dumps(info))
    assert listed()["w"]["state"] == state


UNREADABLE: list[object] = [None, True, [], {}, [7], ["exit code 7"], {"text": "exit code 7"}, 1e300, -1, "", "x" * 9]


@pytest.mark.parametrize("value", UNREADABLE, ids=repr)
def test_what_cannot_be_read_counts_as_absent(
    value: object, sql: Callable[..., list[Any]], insert_worker: Insert, listed: Listed
) -> None:
    insert_worker("well")
    for key in ("watchdog_seconds", "progress_at", "watchdog_triggered"):
        if (key, value) != ("watchdog_triggered", True):
            insert_worker(f"of.{key}", info=json.dumps({key: value}))
    for key in ("exit_code", "failure", "progress"):
        if value != -1 if key == "exit_code" else not isinstance(value, str) or not value:
            insert_worker(f"of.{key}", info=json.dumps({key: value, "stopped_at": "2025-01-15T17:20:15Z"}))
    for worker in listed().values():
        assert worker["state"] in ("active", "forgotten"), worker
        assert (worker["exit_code"], worker["failure"], worker["progress"], worker["progress_at"]) == (None,) * 4


@pytest.mark.parametrize("value", UNREADABLE, ids=repr)
def test_an_unreadable_time_of_progress_beside_a_valid_promise_is_stuck(
    value: object, insert_worker: Insert, listed: Listed
) -> None:
    insert_worker("w", info=json.dumps({"watchdog_seconds": 60, "progress_at": value}))
    assert listed()["w"]["state"] == "stuck"


@pytest.mark.parametrize("seconds", [-1, 1_000_001, "10", None, [10], 1e300])
def test_a_promise_counts_from_0_to_a_million_seconds(seconds: object, insert_worker: Insert, listed: Listed) -> None:
    insert_worker("w", info=json.dumps({"watchdog_seconds": seconds, "progress_at": "2025-01-15T17:20:15Z"}))
    assert listed()["w"]["state"] == "active"


INFOS = [
    *("null", "7", '"stopped_at"', '"progress"', "[]", '["stopped_at", "failure"]', "true"),
    '["watchdog_triggered", "watchdog_seconds", "progress_at"]',
    '{"watchdog_seconds": 1e-400, "progress_at": "2025-01-15"}',
    '{"watchdog_seconds": 1e131071}',
    '{"exit_code": 1e131071, "stopped_at": "infinity"}',
    '{"exit_code": 2147483648, "stopped_at": "2025-01-15T17:20:15Z"}',
    '{"exit_code": 7.5, "stopped_at": "2025-01-15T17:20:15Z"}',
    '{"progress_at": "20250-01-15T17:20:15Z"}',
    '{"progress_at": "-infinity", "stopped_at": "12:00:00"}',
    '{"progress_at": "2025-02-30T00:00:00Z"}',
    '{"progress_at": "500000-01-01", "watchdog_seconds": 5}',
    '{"stopped_at": "500000-01-01"}',
    '{"stopped_at": "5874897-12-31"}',
    '{"stopped_at": "294276-12-31"}',
    '{"stopped_at": "294276-12-31T23:59:59-15:00"}',
    '{"stopped_at": "294277-01-01"}',
    '{"stopped_at": "4714-11-24 BC"}',
    '{"stopped_at": "4715-01-01 BC"}',
    '{"progress": "\\u202e\\n\\t<script>", "failure": {"a": 1}}',
]


@pytest.mark.parametrize("info", INFOS)
def test_a_hostile_row_hides_no_other(info: str, insert_worker: Insert, reader: Reader, listed: Listed) -> None:
    insert_worker("well")
    insert_worker("hostile", info=info)
    insert_worker("failed", info='{"stopped_at": "2999-01-01T00:00:00Z", "failure": "exit code 7"}')
    workers = listed()
    assert workers["well"]["state"] == "active"
    assert workers["failed"]["state"] == "failed"
    assert workers["hostile"]["exit_code"] is None
    assert reader.query(lambda each: get_worker(each, "hostile", DEFAULT_THRESHOLDS), 5) is not None
    counts = reader.query(lambda each: count_fleet(each, DEFAULT_THRESHOLDS, JobsLog()), 5)
    families, jobs_log = WorkerFamilies(), JobsLog()
    fleet = reader.query(lambda each: read_fleet(each, DEFAULT_THRESHOLDS, frozenset(State), families, jobs_log), 5)
    states = Counter(group.state for group in fleet.groups for _ in range(group.workers))
    assert states == +Counter(counts.states) == Counter(each["state"] for each in workers.values())
    written, _ = families.write(fleet)
    assert b"".join(written[WORKER_INFO]).count(b'{node_id="hostile",') == 1


@pytest.mark.parametrize("fraction", ["", ".5", ".123456"])
def test_progress_in_zulu_keeps_a_promise(fraction: str, insert_worker: Insert, listed: Listed) -> None:
    """PostgreSQL before version 17 does not read it by itself."""
    written = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"
    insert_worker("w", info=json.dumps({"watchdog_seconds": 1_000_000, "progress_at": written}))
    worker = listed()["w"]
    assert (worker["state"], worker["progress_at"]) == ("active", f"{written[:19]}Z")


def test_every_field_is_returned_as_it_was_written(
    sql: Callable[..., list[Any]], insert_worker: Insert, listed: Listed
) -> None:
    moment = "2025-01-15T17:20:15.987654+00:00"
    reported = {"progress": "block " + "7" * 300, "progress_at": moment}
    ended = {"stopped_at": "2999-01-15T18:20:15+01:00", "exit_code": 137, "failure": "killed by SIGKILL"}
    insert_worker("w", info=json.dumps(reported | ended))
    worker = listed()["w"]
    assert worker["stopped_at"] == "2999-01-15T17:20:15Z"
    assert (worker["exit_code"], worker["failure"]) == (137, "killed by SIGKILL")
    assert worker["progress"] == ("block " + "7" * 300)[:200]
    assert worker["progress_at"] == "2025-01-15T17:20:15Z"


@pytest.mark.slow
def test_fields_that_do_not_apply_are_null(insert_worker: Insert, listed: Listed) -> None:
    insert_worker("w")
    worker = dict(listed()["w"])
    absent = ("stopped_at", "exit_code", "failure", "progress", "progress_at", "jobs")
    assert [worker[key] for key in absent] == [None] * len(absent)
    insert_worker("running", info='{"exit_code": 7, "failure": "exit code 7"}')
    running = listed()["running"]
    assert (running["state"], running["exit_code"], running["failure"]) == ("active", None, None)
