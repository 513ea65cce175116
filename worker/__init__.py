"""A worker's side: what it was built from, and its heartbeat."""

from worker.build_info import build_info
from worker.heartbeat import Heartbeat
from worker.node_id import FencedOut, NodeIdTaken

__all__ = ["FencedOut", "Heartbeat", "NodeIdTaken", "build_info"]
