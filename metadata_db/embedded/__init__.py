"""A PostgreSQL of the project's own, for `ampd solo` and for the tests."""

from amp_workers.metadata_db.embedded.account import account
from amp_workers.metadata_db.embedded.paths import EmbeddedPostgresError, Place, find_place
from amp_workers.metadata_db.embedded.server import EmbeddedPostgres, die_with_parent, ignore_libpq_environment

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "Place",
    "account",
    "die_with_parent",
    "find_place",
    "ignore_libpq_environment",
]
