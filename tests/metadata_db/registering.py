"""Registers a worker over the holder of its node id, without a check that the holder is dead."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from amp_workers.metadata_db import register, registration


def enter(connection: Connection, node_id: str, info: Mapping[str, str]) -> datetime:
    """Register, and return the fence of the registration."""
    registered_at = register(connection, node_id, info, registration(connection, node_id))
    assert registered_at is not None
    return registered_at
