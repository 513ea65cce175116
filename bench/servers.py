"""A PostgreSQL for a benchmark alone."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from amp_workers.metadata_db import MetadataDbUrl
from amp_workers.metadata_db.embedded import EmbeddedPostgres, account, find_place
from amp_workers.metadata_db.migrate import upgrade


@contextmanager
def postgres(settings: str = "", parent: Path | None = None) -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """Run a PostgreSQL for as long as it is needed; yields it and the directory of its programs.

    settings: lines for its configuration, such as `max_connections = 5000`. parent: where its data is to lie.
    """
    directory = Path(tempfile.mkdtemp(prefix="amp-bench-", dir=parent))
    directory.chmod(0o755)
    owner = account()
    place = find_place(directory / "postgres", owner)
    server = EmbeddedPostgres(place, owner)
    server.start(lambda _: None)
    try:
        if settings:
            with (place.data / "postgresql.conf").open("a") as configuration:
                configuration.write(settings)
            server.stop(10)
            server.start(lambda _: None)
        upgrade(MetadataDbUrl.parse(server.url))
        yield server, place.programs
    finally:
        server.stop(10)
        shutil.rmtree(directory)


def connect(server: EmbeddedPostgres) -> psycopg.Connection[tuple[object, ...]]:
    """Return a connection where each statement commits."""
    return psycopg.connect(server.url, autocommit=True)
