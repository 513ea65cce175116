"""From a fault of the metadata DB or the exporter to the operator's webhook, and to its recovery.

The tests are separate from those of workers, because both take minutes and can run in parallel.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alarm.deployment import WORKERS, Deployment, deployed
from tests.alarm.faults import EXPORTER_FROZEN, METADATA_DB_STOPPED, Fault, one_cause_one_notification

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, open_directory: Path) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("alarm"), open_directory, node_ids=WORKERS[:4]) as made:
        yield made


@pytest.mark.parametrize("fault", [METADATA_DB_STOPPED, EXPORTER_FROZEN], ids=lambda fault: fault.name)
def test_one_cause_one_notification(deployment: Deployment, fault: Fault) -> None:
    one_cause_one_notification(deployment, fault)
