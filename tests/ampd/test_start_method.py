"""Python 3.14 starts processes of `multiprocessing` by "forkserver". Only the servers depend on the start method."""

import sys

import pytest

from tests.processes import Processes

AMPD = """
import multiprocessing

multiprocessing.set_start_method("forkserver")
from amp_workers.ampd.cli import main

main()
"""


@pytest.mark.slow
def test_a_worker_runs_its_program_whatever_the_start_method(processes: Processes, empty_database: str) -> None:
    database = {"AMP_METADATA_DB_URL": empty_database}
    migrate = processes.start(sys.executable, "-c", AMPD, "migrate", env=database)
    assert migrate.wait() == 0, migrate.output
    worker = processes.start(
        *(sys.executable, "-c", AMPD),
        *("worker", "--node-id=w", "--", "sh", "-c", "exit 7"),
        env=database,
    )
    assert worker.wait() == 7, worker.output
    worker.says("'w' stopped")
