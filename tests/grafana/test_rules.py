"""The rules, tested by `promtool`: each alert fires exactly at the expected times."""

import pytest

# The first test waits for promtool, which takes 40 s of CPU time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
