"""The worker: its build info, its registration and heartbeat, and the program that it runs."""

from amp_workers.worker.api import Worker
from amp_workers.worker.backoff import Backoff
from amp_workers.worker.heartbeat import AmpDatabaseRefused, Heartbeat
from amp_workers.worker.program import Program
from amp_workers.worker.progress import LONGEST_WATCHDOG_SECONDS, ProgressReports
from amp_workers.worker.takeover import FencedOut, NodeIdTaken

__all__ = [
    "LONGEST_WATCHDOG_SECONDS",
    "AmpDatabaseRefused",
    "Backoff",
    "FencedOut",
    "Heartbeat",
    "NodeIdTaken",
    "Program",
    "ProgressReports",
    "Worker",
]
