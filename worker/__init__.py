"""A worker's side: what it was built from, its heartbeat, and the program that it beats for."""

from worker.build_info import build_info
from worker.embedded import Worker
from worker.heartbeat import Heartbeat
from worker.node_id import FencedOut, NodeIdTaken
from worker.program import Program

__all__ = ["FencedOut", "Heartbeat", "NodeIdTaken", "Program", "Worker", "build_info"]
