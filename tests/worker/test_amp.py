"""A worker of this project in a fleet of Amp's own."""

import pytest

from tests.metadata_db import amp
from tests.processes import Processes, eventually


@pytest.mark.parametrize("age", [amp.WITH_ZONES, amp.TODAYS])
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
