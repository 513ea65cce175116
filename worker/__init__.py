"""A worker's side: what it was built from, and its heartbeat."""

from worker.build_info import build_info
from worker.heartbeat import FencedOut, Heartbeat, NodeIdTaken

__all__ = ["FencedOut", "Heartbeat", "NodeIdTaken", "build_info"]
