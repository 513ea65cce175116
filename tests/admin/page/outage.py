"""An outage of one database of the tests' PostgreSQL."""

import psycopg

from amp_workers.metadata_db.embedded import EmbeddedPostgres


class Outage:
    """Makes the server refuse connections to a database."""

    def __init__(self, postgres: EmbeddedPostgres, url: str) -> None:
        self._server = postgres.url
        self._name = url.rpartition("?")[0].rpartition("/")[2]

    def begin(self) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS false')
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND application_name = 'ampd admin'",
                [self._name],
            )

    def end(self) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS true')
