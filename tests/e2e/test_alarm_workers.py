"""From a fault of workers to the operator's webhook, and to its recovery, with real Prometheus and Alertmanager.

`bench/detection.py` measures the delays, and has more faults. These tests check that only the right alert fires.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alarm.deployment import Deployment, deployed
from tests.alarm.faults import (
    BLACK_HOLED,
    FROZEN,
    HALF_KILLED,
    KILLED,
    QUIET,
    await_notification,
    one_cause_one_notification,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, open_directory: Path) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("alarm"), open_directory) as made:
        yield made


def test_single_workers(deployment: Deployment) -> None:
    """Killed, frozen and disconnected at the same time: one notification each, and none about the fleet."""
    faults = (KILLED, FROZEN, BLACK_HOLED)
    deployment.await_rest()
    began = time.monotonic()
    for fault in faults:
        fault.inject(deployment)
    for fault in faults:
        await_notification(deployment, fault, firing=True, since=began)
    recovered = time.monotonic()
    for fault in faults:
        fault.recover(deployment)
    for fault in faults:
        await_notification(deployment, fault, firing=False, since=recovered)
    assert deployment.webhook.alerts(began) == {"AmpWorkerHeartbeatStale"}


def test_half_the_fleet(deployment: Deployment) -> None:
    one_cause_one_notification(deployment, HALF_KILLED)


def test_normal_operations_fire_no_alert(deployment: Deployment) -> None:
    deployment.await_rest()
    began = time.monotonic()
    for quiet in QUIET:
        quiet.do(deployment)
    deployment.await_rest()
    assert deployment.webhook.since(began) == []
