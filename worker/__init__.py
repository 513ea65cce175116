"""The worker: its build info, its registration and heartbeat, and the program that it runs."""

from amp_workers.worker.api import Worker
from amp_workers.worker.build_info import build_info
from amp_workers.worker.heartbeat import AmpDatabaseRefused, Heartbeat
from amp_workers.worker.program import Program
from amp_workers.worker.takeover import FencedOut, NodeIdTaken

__all__ = ["AmpDatabaseRefused", "FencedOut", "Heartbeat", "NodeIdTaken", "Program", "Worker", "build_info"]
