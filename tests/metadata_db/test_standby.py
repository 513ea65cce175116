"""A real primary and its streaming standby: the lag, its reports, and reads that conflict with the replay."""

import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from amp_workers.metadata_db import MetadataDbUrl, Reader
from amp_workers.metadata_db.migrate import upgrade
from tests.clusters import Cluster
from tests.processes import Processes, eventually, free_port, get

pytestmark = pytest.mark.slow

Clusters = tuple[Cluster, Cluster]


@pytest.fixture(scope="module")
def clusters(open_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """A primary with a workers table, and a standby that follows it."""
    processes = Processes(tmp_path_factory.mktemp("standby"), forks_ampd=True)
    primary, standby = (Cluster(open_directory / name, processes) for name in ("primary", "replica"))
    try:
        primary.initialise()
        primary.start()
        upgrade(MetadataDbUrl.parse(primary.url))
        standby.follow(primary)
        standby.start("max_standby_streaming_delay=0")
        yield primary, standby
    finally:
        processes.end()


def execute(cluster: Cluster, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def beat(cluster: Cluster, node_id: str) -> None:
    execute(
        cluster,
        "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) VALUES "
        f"('{node_id}', clock_timestamp(), now(), now()) ON CONFLICT (node_id) DO UPDATE SET heartbeat_at = "
        "clock_timestamp()",
    )


def has_replayed_all(clusters: Clusters) -> bool:
    primary, standby = clusters
    [(position,)] = execute(primary, "SELECT pg_current_wal_flush_lsn()")
    return execute(standby, f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == [(True,)]


def reader_of(cluster: Cluster) -> Reader:
    return Reader(MetadataDbUrl.parse(cluster.url), "test", connections=1, statement_timeout=60)


def lag_of(reader: Reader) -> float | None:
    reader.query(lambda connection: connection.execute(text("SELECT 1")).all(), 10)
    return reader.replay_lag.seconds


def error_of(url: str) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(url, timeout=30)
    with raised.value as error:
        return error.code, error.read().decode()


def test_a_primary_has_no_lag(clusters: Clusters) -> None:
    assert lag_of(reader_of(clusters[0])) is None


def test_a_standby_that_has_replayed_everything_has_no_lag(clusters: Clusters) -> None:
    """However old the last commit is."""
    beat(clusters[0], "w")
    eventually(lambda: has_replayed_all(clusters))
    time.sleep(1.5)
    assert lag_of(reader_of(clusters[1])) == 0


def test_a_lag_is_reported_everywhere_while_it_lasts(processes: Processes, clusters: Clusters) -> None:
    primary, standby = clusters
    ports = admin, exporter = free_port(), free_port()
    parts = [
        processes.ampd(part, "--web.listen-address", f"127.0.0.1:{port}", database=standby.url)
        for part, port in zip(("admin", "exporter"), ports, strict=True)
    ]
    for port in ports:
        eventually(partial(get, f"http://127.0.0.1:{port}/-/healthy"))

    def lag() -> float:
        found = re.search(
            r"^amp_metadata_db_replay_lag_seconds (.*)$", get(f"http://127.0.0.1:{exporter}/metrics"), re.M
        )
        assert found is not None
        return float(found[1])

    assert lag() == 0
    assert get(f"http://127.0.0.1:{admin}/-/ready") == "ready\n"
    with psycopg.connect(primary.url) as locker:
        locker.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
        eventually(lambda: execute(standby, "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"))
        execute(standby, "SELECT pg_wal_replay_pause()")
        try:
            execute(primary, "CREATE TABLE IF NOT EXISTS other (); DROP TABLE other")
            reader = reader_of(standby)
            eventually(lambda: (lag_of(reader) or 0) > 5)
            # A lock on the table of the primary also locks it on the standby.
            status, body = error_of(f"http://127.0.0.1:{admin}/workers")
            assert status == 503
            assert "METADATA_DB_UNAVAILABLE" in body
            assert "is a standby that lags" in body
        finally:
            execute(standby, "SELECT pg_wal_replay_resume()")
    eventually(lambda: has_replayed_all(clusters))
    execute(standby, "SELECT pg_wal_replay_pause()")
    try:
        beat(primary, "w")
        eventually(lambda: lag() > 5)
        for port in ports:
            assert "standby that lags" in eventually(partial(get, f"http://127.0.0.1:{port}/-/ready"))
    finally:
        execute(standby, "SELECT pg_wal_replay_resume()")
    eventually(lambda: has_replayed_all(clusters))
    assert lag() == 0
    for port, part in zip(ports, parts, strict=True):
        eventually(lambda port=port: get(f"http://127.0.0.1:{port}/-/ready") == "ready\n")  # type: ignore[misc]
        part.says("is a standby that lags")
        part.says("no longer lags behind")


def test_a_read_that_conflicts_with_the_replay_is_repeated_in_time(clusters: Clusters) -> None:
    primary, standby = clusters
    beat(primary, "conflict")
    eventually(lambda: has_replayed_all(clusters))
    attempts = 0

    def run(connection: Connection) -> int:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            # The primary removes rows that the snapshot of the read sees.
            threading.Timer(0.5, execute, (primary, "TRUNCATE workers")).start()
            connection.execute(text("SELECT count(*), pg_sleep(40) FROM workers"))
        return attempts

    assert reader_of(standby).query(run, 50) == 2


def test_a_standby_without_a_primary_lags_from_its_last_commit(clusters: Clusters) -> None:
    primary, standby = clusters
    beat(primary, "w")
    eventually(lambda: has_replayed_all(clusters))
    standby.stop()
    beat(primary, "w")
    standby.start("primary_conninfo=")
    try:
        reader = reader_of(standby)
        eventually(lambda: (lag_of(reader) or 0) > 1)
        assert execute(standby, "SELECT pg_last_wal_receive_lsn()") == [(None,)]
    finally:
        standby.stop()
        standby.start()
    eventually(lambda: has_replayed_all(clusters))
    eventually(lambda: lag_of(reader_of(standby)) == 0)
