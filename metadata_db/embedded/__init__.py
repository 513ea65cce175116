"""An embedded PostgreSQL, for `ampd solo` and for the tests."""

from amp_workers.metadata_db.embedded.account import Account, account
from amp_workers.metadata_db.embedded.paths import EmbeddedPostgresError, Place, find_place
from amp_workers.metadata_db.embedded.server import EmbeddedPostgres, ignore_libpq_environment

__all__ = [
    "Account",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "Place",
    "account",
    "find_place",
    "ignore_libpq_environment",
]
