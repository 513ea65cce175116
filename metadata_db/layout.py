"""The ages of Amp's `workers` table, each of which is read as if it were today's.

Today's table has today's statements, to the letter. For an older one they have a common table expression put in front,
which goes by the name of `workers` and has today's columns. The sessions that read have UTC for their time zone, as
those of `pooled_engine` do: a cast is then right for a moment with a time zone and for one without, even where Amp
changes the one into the other meanwhile.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Connection,
    Executable,
    Select,
    cast,
    column,
    func,
    literal_column,
    select,
    table,
    text,
)

from amp_workers.metadata_db.errors import UnfitSchema
from amp_workers.metadata_db.schema import workers

_COLUMNS = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = to_regclass('workers') AND attnum > 0 AND NOT attisdropped
"""

_NAMES = tuple(each.name for each in workers.columns)

_AWARE, _NAIVE = "timestamp with time zone", "timestamp without time zone"

_FIT = {"heartbeat_at": (_AWARE, _NAIVE), "info": ("jsonb",)} | dict.fromkeys(
    ("created_at", "registered_at"), (_AWARE, _NAIVE)
)
"""The types that a column may be of. An id and a node id are taken as they come."""

_OLD_NAMES = {"heartbeat_at": "last_heartbeat"}

# What stands for a column that is not there yet. The moments are never shown: see `unknown_moments`.
_STAND_INS: dict[str, ColumnElement[Any]] = {
    "info": literal_column("jsonb '{}'"),
    "created_at": literal_column("timestamptz 'epoch'"),
    "registered_at": literal_column("timestamptz 'epoch'"),
}

_KEY = "layout"


@dataclass(frozen=True)
class Layout:
    """The columns of one `workers` table."""

    types: Mapping[str, str]
    """As PostgreSQL names them, by the columns' own names. Empty where there is no such table."""

    @property
    def is_todays(self) -> bool:
        """Whether it is the table that the statements are written for."""
        return all(self.types.get(name) == fit[0] for name, fit in _FIT.items())

    @property
    def unknown_moments(self) -> frozenset[str]:
        """Those of today's moments that the table does not have."""
        return frozenset({"created_at", "registered_at"} - self._sources.keys()) if self.types else frozenset()

    def readable(self, statement: Select[Any]) -> Select[Any]:
        """Return a statement over today's table as one over this.

        Raises:
            UnfitSchema: this is no age of Amp's table.
        """
        return statement if self.is_todays or not self.types else statement.add_cte(self._as_todays)

    def check_readable(self) -> None:
        """Raise UnfitSchema where this is no age of Amp's table."""
        problems = self._problems(
            {name: self.types[source] for name, source in self._sources.items()}, ("id", "node_id", "heartbeat_at")
        )
        if self.types and problems:
            raise UnfitSchema(f"the metadata DB's workers table is none of Amp's: {problems}")

    def check_writable(self) -> None:
        """Raise UnfitSchema where no worker can register: a column is not there, or not of its type."""
        problems = self._problems(self.types, _NAMES)
        if self.types and problems:
            raise UnfitSchema(
                f"a worker cannot register in the metadata DB's workers table: {problems}. The table is of an Amp from "
                "before its migration 20251030111407, or none of Amp's: upgrade Amp first"
            )

    def is_naive(self, name: str) -> bool:
        """Whether a column is without a time zone, which means UTC."""
        return self.types.get(name) == _NAIVE

    def aware(self, moment: ColumnElement[Any], name: str) -> ColumnElement[Any]:
        """Return what a column holds as a `timestamptz`, whatever the session's time zone."""
        return func.timezone(text("'UTC'"), moment) if self.is_naive(name) else moment

    stored = aware
    """Return a `timestamptz` as a column is to hold it: PostgreSQL calls the way there and the way back alike."""

    @cached_property
    def _sources(self) -> dict[str, str]:
        """What today's columns are called here, those that are here."""
        here = {name: old for name, old in _OLD_NAMES.items() if old in self.types}
        return here | {name: name for name in _NAMES if name in self.types}

    @cached_property
    def _as_todays(self) -> CTE:
        self.check_readable()
        return select(*map(self._as_todays_column, workers.columns)).select_from(table("workers")).cte("workers")

    def _as_todays_column(self, todays: Column[Any]) -> ColumnElement[Any]:
        source = self._sources.get(todays.name)
        read = _STAND_INS[todays.name] if source is None else column(source)
        return (cast(read, todays.type) if todays.name in _FIT else read).label(todays.name)

    @staticmethod
    def _problems(types: Mapping[str, str], needed: Iterable[str]) -> str:
        lacking = [name for name in needed if name not in types]
        wrong = [
            f"its {name} is of type {types[name]}" for name in _FIT if types.get(name, _FIT[name][0]) not in _FIT[name]
        ]
        return "; ".join(([f"it lacks {', '.join(lacking)}"] if lacking else []) + wrong)


def layout_of(connection: Connection) -> Layout:
    """Return the layout of the table that a connection leads to. It is asked for once."""
    known: Layout | None = connection.info.get(_KEY)
    if known is None:
        known = Layout({row[0]: row[1] for row in connection.exec_driver_sql(_COLUMNS)})
        if known.types:
            connection.info[_KEY] = known
    return known


def forget_layout(connection: Connection) -> Layout | None:
    """Have the layout asked for again; return what was known, if it was."""
    known: Layout | None = connection.info.pop(_KEY, None)
    return known


def adapt(
    connection: Connection, statement: Executable, multiparams: Any, params: Any, _options: Any
) -> tuple[Executable, Any, Any]:
    """Have a statement that is about to be executed read the table that is there: an engine's `before_execute`.

    Raises:
        UnfitSchema: the table is none of Amp's.
    """
    if isinstance(statement, Select):
        statement = layout_of(connection).readable(statement)
    return statement, multiparams, params
