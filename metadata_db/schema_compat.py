"""Checks that the `workers` table has the columns that the statements of this project use."""

from collections.abc import Mapping

from sqlalchemy import Connection

from amp_workers.metadata_db.amp_database import amp_database
from amp_workers.metadata_db.errors import MetadataDbError, UnfitSchema
from amp_workers.metadata_db.schema import workers

OLDEST_MIGRATION = 20251219050000
"""Amp's migration that gives `heartbeat_at` its time zone. No later one changes `workers`."""

_COLUMNS = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = to_regclass('workers') AND attnum > 0 AND NOT attisdropped
"""

_TYPES = {"info": "jsonb"} | dict.fromkeys(("heartbeat_at", "created_at", "registered_at"), "timestamp with time zone")
"""An id may be of any integer type, and a node id of any text type."""

_OLD_TYPES = ("timestamp without time zone", "timestamp with time zone")

_KEY = "has_compatible_schema"


def check_compatible(connection: Connection) -> None:
    """Raise an error where the statements of this project do not fit the `workers` table.

    The catalogue is read once per session. A refusal is not kept, so that an upgrade of Amp is seen. Where there is no
    table, PostgreSQL's own error follows from the first statement, except in Amp's own database.

    Raises:
        UnfitSchema: the table is of an Amp that is too old, or is not Amp's.
        MetadataDbError: Amp's table is in a schema that this role does not see, or is not there yet.
    """
    if _KEY in connection.info:
        return
    types = {row[0]: row[1] for row in connection.exec_driver_sql(_COLUMNS)}
    if not types:
        _check_amp_database(connection)
        return
    problems = _problems(types)
    if problems:
        raise UnfitSchema(_refusal(types, "; ".join(problems)))
    connection.info[_KEY] = True


def _check_amp_database(connection: Connection) -> None:
    amp = amp_database(connection)
    if amp is None:
        return
    if not amp.has_workers:
        raise MetadataDbError(
            "schema",
            f"this metadata DB is Amp's own ({amp}) and has no workers table yet: start Amp, or upgrade it, so that it "
            "migrates its schema; then run `ampd migrate --print-grants` again and pass its output to psql",
        )
    raise MetadataDbError(
        "schema",
        f"Amp's workers table is in schema {amp.schema}, which is not on this role's search_path, or which this role "
        "may not use: run `ampd migrate --print-grants` again and pass its output to psql, or run ALTER ROLE … IN "
        "DATABASE … SET search_path for the role",
    )


def _problems(types: Mapping[str, str]) -> list[str]:
    missing = [column.name for column in workers.columns if column.name not in types]
    wrong = [
        f"its {name} is of type {types[name]}"
        for name, expected in _TYPES.items()
        if types.get(name, expected) != expected
    ]
    return ([f"it lacks {', '.join(missing)}"] if missing else []) + wrong


def _refusal(types: Mapping[str, str], problems: str) -> str:
    heartbeat = types.get("heartbeat_at", types.get("last_heartbeat"))
    if "node_id" in types and heartbeat in _OLD_TYPES:
        return (
            f"the metadata DB's workers table is from before Amp's migration {OLDEST_MIGRATION}: upgrade Amp "
            f"({problems})"
        )
    return (
        f"the metadata DB's workers table is not Amp's: {problems}. Use the URL of another database, or select another "
        "schema with ?options=-csearch_path%3DSCHEMA"
    )
