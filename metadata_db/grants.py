"""The privileges of the roles that use a metadata DB."""

from importlib.resources import files

from amp_workers.metadata_db.amp_database import AMP_DATABASE


def grants() -> str:
    """Return a script for psql that creates a role for each use of a metadata DB, with the least privileges."""
    script = (files("amp_workers.metadata_db") / "grants.sql").read_text()
    return script.replace("AMP_DATABASE", AMP_DATABASE.strip())
