"""The database's clock is stepped: a dead worker does not appear alive, and a live one stays active."""

import json
import os
import re
import signal
from functools import partial
from pathlib import Path

import pytest

from amp_workers.metadata_db import MetadataDbUrl
from amp_workers.metadata_db.migrate import upgrade
from tests.clusters import Clock, Cluster
from tests.processes import BIN, Processes, eventually, free_port, get, run


@pytest.mark.slow
def test_the_databases_clock_is_stepped_backwards_and_forwards(processes: Processes, open_directory: Path) -> None:
    directory = open_directory / "clock"
    directory.mkdir()
    clock = Clock(directory)
    cluster = Cluster(directory, processes, clock.environment)
    cluster.initialise()
    cluster.start()
    upgrade(MetadataDbUrl.parse(cluster.url))
    live, dead = (processes.ampd("worker", "--node-id", name, database=cluster.url) for name in ("live", "dead"))
    ports = admin, exporter = free_port(), free_port()
    for part, port in zip(("admin", "exporter"), ports, strict=True):
        processes.ampd(part, "--web.listen-address", f"127.0.0.1:{port}", database=cluster.url)
        eventually(partial(get, f"http://127.0.0.1:{port}/-/ready"))
    for worker in (live, dead):
        worker.says("registered")

    def ampctl(*arguments: str) -> tuple[int, str]:
        ended = run(str(BIN / "ampctl"), "--admin-url", f"http://127.0.0.1:{admin}", "worker", *arguments)
        return ended.returncode, ended.stdout

    def states() -> dict[str, str]:
        found = json.loads(ampctl("list", "--json")[1])
        return {worker["node_id"]: worker["state"] for worker in found["workers"]}

    def metric(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (.*)$", get(f"http://127.0.0.1:{exporter}/metrics"), re.M)
        assert found is not None, name
        return float(found[1])

    assert eventually(lambda: ampctl("check")[0] == 0)
    os.kill(dead.pid, signal.SIGKILL)
    clock.step("-40")
    eventually(lambda: states() == {"live": "active", "dead": "stale"})
    code, output = ampctl("check")
    assert code == 1
    assert "dead: stale" in output
    assert "in the future" in output
    assert "live" not in output
    wide = ampctl("list", "--wide")[1]
    assert re.search(r"^stale +dead +-[123]?\ds ", wide, re.M), wide
    assert -41 <= metric('amp_worker_heartbeat_age_seconds{node_id="dead"}') < -5
    assert 5 < metric("amp_fleet_oldest_heartbeat_age_seconds") <= 41
    assert metric('amp_fleet_heartbeat_age_seconds_bucket{le="5.0"}') == 1
    assert metric('amp_fleet_heartbeat_age_seconds_bucket{le="60.0"}') == 2
    assert metric('amp_workers{state="stale"}') == 1

    clock.step("+600")
    eventually(lambda: states() == {"live": "active", "dead": "lost"})
    code, output = ampctl("check")
    assert code == 1
    assert "dead: lost" in output
    assert metric('amp_worker_heartbeat_age_seconds{node_id="dead"}') > 60
    assert live.popen.poll() is None
    assert live.stop() == 0
