"""The rights of the roles that use a metadata DB."""

from importlib.resources import files


def grants() -> str:
    """Return a script for psql that makes a role for each use of a metadata DB, with no more rights than it needs."""
    return (files("amp_workers.metadata_db") / "grants.sql").read_text()
