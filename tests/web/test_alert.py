"""What wakes the main thread of a server's parent."""

import subprocess
import sys

from tests.processes import ROOT

FORKS = """
import os
from amp_workers.web.alert import Alert

alert = Alert()
child = os.fork()
if child == 0:
    alert.set()
    os._exit(0)
os.waitpid(child, 0)
assert not alert.is_set(), "by its child"
alert.set()
assert alert.is_set()
alert.clear()
assert not alert.is_set()
"""


def test_a_forked_process_does_not_wake_its_parent() -> None:
    subprocess.run([sys.executable, "-c", FORKS], cwd=ROOT, timeout=30, check=True)
