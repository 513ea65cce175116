"""A worker's side: what it was built from, its heartbeat, and the program that it beats for."""

from amp_workers.worker.api import Worker
from amp_workers.worker.build_info import build_info
from amp_workers.worker.heartbeat import Heartbeat
from amp_workers.worker.program import Program
from amp_workers.worker.takeover import FencedOut, NodeIdTaken

__all__ = ["FencedOut", "Heartbeat", "NodeIdTaken", "Program", "Worker", "build_info"]
