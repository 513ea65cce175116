"""How a fleet is divided into groups of workers."""

from sqlalchemy import ColumnElement

from amp_workers.metadata_db.schema import constant, workers

GROUP_BITS = 10

GROUP_SIZE = 2**GROUP_BITS
"""Ids in a group: small, so that one worker that restarts has few others read again; large, so that there are few."""

Key = tuple[int, str]
"""A group: its number (the ids divided by GROUP_SIZE), and its state."""


def group_number() -> ColumnElement[int]:
    """The number of a worker's group."""
    return workers.c.id.op(">>")(constant(GROUP_BITS))
