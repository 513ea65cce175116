"""From a fault in a running process to the operator's webhook, and back: real Prometheus, real Alertmanager.

`bench/detection.py` measures the seconds, of more faults; here it counts that the right alert rings, alone.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alarm.deployment import Deployment, deployed
from tests.alarm.faults import (
    BLACK_HOLED,
    EXPORTER_FROZEN,
    FROZEN,
    HALF_KILLED,
    KILLED,
    METADATA_DB_STOPPED,
    QUIET,
    Fault,
)
from tests.processes import eventually

PATIENCE_SECONDS = 120.0

pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, open_directory: Path) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("alarm"), open_directory) as made:
        yield made


def _rings(deployment: Deployment, fault: Fault, firing: bool, since: float) -> None:
    eventually(lambda: deployment.bell.first(fault.alert, firing, since, fault.node_id), PATIENCE_SECONDS)


def test_single_workers(deployment: Deployment) -> None:
    """Killed, frozen and cut off, at the same time: a message for each, and none about the fleet."""
    faults = (KILLED, FROZEN, BLACK_HOLED)
    began = time.monotonic()
    for fault in faults:
        fault.inject(deployment)
    for fault in faults:
        _rings(deployment, fault, True, began)
    recovered = time.monotonic()
    for fault in faults:
        fault.recover(deployment)
    for fault in faults:
        _rings(deployment, fault, False, recovered)
    assert deployment.bell.alerts(began) == {"AmpWorkerHeartbeatStale"}


@pytest.mark.parametrize("fault", [HALF_KILLED, METADATA_DB_STOPPED, EXPORTER_FROZEN], ids=lambda fault: fault.name)
def test_one_cause_one_page(deployment: Deployment, fault: Fault) -> None:
    deployment.await_rest()
    began = time.monotonic()
    fault.inject(deployment)
    _rings(deployment, fault, True, began)
    # What would ring for each worker would have had its time by now.
    time.sleep(15)
    recovered = time.monotonic()
    fault.recover(deployment)
    _rings(deployment, fault, False, recovered)
    assert deployment.bell.alerts(began) - fault.may == {fault.alert}


def test_what_is_no_fault_does_not_ring(deployment: Deployment) -> None:
    deployment.await_rest()
    began = time.monotonic()
    for quiet in QUIET:
        quiet.do(deployment)
    deployment.await_rest()
    assert deployment.bell.since(began) == []
