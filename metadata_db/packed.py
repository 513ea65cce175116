"""Many values of a group of rows in one, 8 bytes each: PostgreSQL takes longer to write a number or a moment as text
than for all else in a scrape."""

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, text

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL's: `timestamptz_send` returns the microseconds since then."""

UNIX_EPOCH = (_EPOCH - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
"""What is added to the microseconds of a packed moment to get those since 1970."""


def packed_integers(integers: ColumnElement[int]) -> Any:
    """All integers of a group of rows, in the order of the rows."""
    return _joined(func.int8send(integers))


def packed_moments(moments: ColumnElement[datetime]) -> Any:
    """All moments of a group of rows, in the order of the rows, as `microseconds` returns them."""
    return _joined(func.timestamptz_send(moments))


def unpacked(values: bytes | None) -> tuple[int, ...]:
    """Return the values of a group of rows. None: it has no rows."""
    return () if values is None else struct.unpack(f">{len(values) // 8}q", values)


def microseconds(moment: datetime) -> int:
    """Return a moment as a packed one is read."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _joined(values: ColumnElement[bytes]) -> Any:
    return func.string_agg(values, text("''"))
