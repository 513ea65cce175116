"""A worker of this project in a fleet of Amp's own."""

from pathlib import Path

import pytest

from amp_workers.metadata_db import DEFAULT_THRESHOLDS, MetadataDbUrl, Reader, State, list_workers
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.metadata_db import amp
from tests.pgbouncer import start_pgbouncer
from tests.processes import Processes, eventually


@pytest.mark.parametrize("age", [amp.WITH_INFO, amp.TODAYS])
def test_two_workers_of_either_kind_never_share_a_node_id(empty_database: str, processes: Processes, age: int) -> None:
    amp.migrate(empty_database, age)
    with amp.AmpsWorker(empty_database, age, "w") as amps:
        assert amps.lock()
        amps.register()
        refused = processes.ampd("worker", "--node-id=w", database=empty_database)

        def beat_until_refused() -> bool:
            amps.beat()
            return refused.popen.poll() is not None

        eventually(beat_until_refused, 30)
        assert refused.wait() == 1
        assert "node id 'w' is held by another worker process" in refused.output
    ours = processes.ampd("worker", "--node-id=w", database=empty_database)
    ours.says("registered as 'w'", 30)
    with amp.AmpsWorker(empty_database, age, "w") as amps:
        assert not amps.lock()
        assert ours.stop() == 0
        eventually(amps.lock)


@pytest.mark.parametrize("way", ["directly", "pooled"])
def test_it_beats_in_utc_through_an_upgrade(
    empty_database: str, processes: Processes, postgres: EmbeddedPostgres, tmp_path: Path, way: str
) -> None:
    amp.migrate(empty_database, amp.WITH_INFO)
    url = empty_database
    if way == "pooled":
        name = empty_database.rpartition("?")[0].rpartition("/")[2]
        url = f"postgresql://postgres@127.0.0.1:{start_pgbouncer(processes, postgres, tmp_path)}/{name}"
    worker = processes.ampd("worker", "--node-id=w", database=url, env={"AMP_LOG": "debug"})
    worker.says("'w' beats", 30, times=2)
    reads = Reader(MetadataDbUrl.parse(empty_database), "a reader", connections=1, statement_timeout=20)

    def state() -> str:
        (found,) = reads.query(lambda connection: list_workers(connection, DEFAULT_THRESHOLDS), 20)
        return found["state"]

    assert state() == State.ACTIVE
    amp.migrate(empty_database, amp.TODAYS)
    beats = worker.output.count("'w' beats")
    worker.says("'w' beats", 30, times=beats + 3)
    assert state() == State.ACTIVE
    assert worker.stop() == 0
    assert state() == State.STOPPED
    assert worker.output.count("registered as 'w'") == 1
