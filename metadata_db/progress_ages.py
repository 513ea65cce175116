"""The seconds since each worker of a group last reported progress.

All workers may report progress between two scrapes, and PostgreSQL takes longer to read a timestamp that any
client may have written than Python takes for the form in which PostgreSQL writes it. PostgreSQL reads every other form.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Double, any_, bindparam, cast, extract, func, select
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from amp_workers.metadata_db.fleet_key import Key, group_number
from amp_workers.metadata_db.schema import BOUND_CLOCK, STATES, progress_at, state_number, workers
from amp_workers.metadata_db.statement import Statement

Ages = list[float | None]
"""In the order of the workers; None for one that reported no progress. Empty where none did."""

_WITHOUT_DIGITS = b"--T::.+:"
_UTC = "+00:00"
_LENGTH = len("2026-01-15T17:20:15.123456")


def usual_ages(written: str, count: int, now: datetime) -> Ages | None:
    """Return the ages by `progress_at` of so many workers, as it is written, a line each.

    None where one of them is not in the form of `2026-01-15T17:20:15.123456+00:00`, with a digit or more after the
    point.
    """
    if len(written) < count:
        return []  # there are line feeds alone
    is_complete = "\n\n" not in written and not written.startswith("\n") and not written.endswith("\n")
    lines = [] if is_complete else written.split("\n")
    text = written if is_complete else "\n".join(filter(None, lines))
    moments = text.removesuffix(_UTC).split(f"{_UTC}\n")
    # The digits are left for the parser to check: it takes exactly as many as there must be between these characters.
    without_digits = text.encode().translate(None, b"0123456789")
    is_usual = (
        len(moments if is_complete else lines) == count
        and without_digits == b"\n".join([_WITHOUT_DIGITS] * len(moments))
        and text.endswith(_UTC)
        # Python would ignore more than six digits after the point, and accepts 24 hours from 3.14 on.
        and max(map(len, moments)) <= _LENGTH
        and "T24" not in text
    )
    if not is_usual:
        return None
    here = now.replace(tzinfo=None)
    try:
        ages = [(here - moment).total_seconds() for moment in map(datetime.fromisoformat, moments)]
    except ValueError:
        return None
    each = iter(ages)
    return [*ages] if is_complete else [next(each) if line else None for line in lines]


def read_ages(connection: Connection, clock: Mapping[str, datetime], keys: Collection[Key]) -> dict[Key, Ages]:
    """Return the ages of groups, the workers of each in the order of their ids, whatever is written.

    clock: the parameters of BOUND_CLOCK with which the groups were read.
    """
    numbers = sorted({number for number, _ in keys})
    rows: Iterable[Sequence[Any]] = _select_ages().execute(connection, {**clock, "numbers": numbers})
    return {(number, STATES[state]): ages for number, state, ages in rows}


@cache
def _select_ages() -> Statement:
    age = cast(extract("epoch", BOUND_CLOCK.now - progress_at()), Double)
    columns = (group_number().label("number"), state_number(BOUND_CLOCK).label("state"))
    return Statement(
        select(*columns, func.array_agg(aggregate_order_by(age, workers.c.id)))
        .where(group_number() == any_(bindparam("numbers", None, ARRAY(BigInteger))))
        .group_by(*columns)
    )
