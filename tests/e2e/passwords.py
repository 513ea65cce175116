"""An embedded PostgreSQL that asks one role for its password."""

from pathlib import Path
from typing import Any

import psycopg

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.processes import eventually


def ask_for_password(server: EmbeddedPostgres, connection: psycopg.Connection[Any], role: str) -> None:
    """Make the server require a password from a role, and return when it refuses a wrong one.

    The server reloads its configuration some time after the request.
    """
    (hba,) = connection.execute("SHOW hba_file").fetchone() or ("",)
    Path(hba).write_text(f"local all {role} scram-sha-256\nlocal all all trust\n")
    connection.execute("SELECT pg_reload_conf()")
    url = server.url.replace("postgres@", f"{role}:not-this-one@")

    def refuses() -> bool:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError as error:
            return "password authentication failed" in str(error)
        return False

    eventually(refuses)
