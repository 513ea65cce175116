"""Processes of the command `ampd` itself: it is executed, as operators start it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Processes


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.end()


@pytest.fixture
def forked(tmp_path: Path) -> Iterator[Processes]:
    """Processes for tests of options, which do not depend on how a process starts."""
    started = Processes(tmp_path, forks_ampd=True)
    yield started
    started.end()
