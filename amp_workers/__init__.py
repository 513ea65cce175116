"""Worker management for an Amp fleet. The public API is `Worker`, which embeds a worker in a Python program, and its
errors.

In the repository, the subpackages are links to its top-level folders.
"""

from typing import TYPE_CHECKING

from amp_workers.errors import AmpError

if TYPE_CHECKING:
    from amp_workers.metadata_db import InvalidMetadataDbUrl, InvalidNodeId, MetadataDbError, UnfitSchema
    from amp_workers.worker import AmpDatabaseRefused, FencedOut, NodeIdTaken, Worker

__all__ = [
    "AmpDatabaseRefused",
    "AmpError",
    "FencedOut",
    "InvalidMetadataDbUrl",
    "InvalidNodeId",
    "MetadataDbError",
    "NodeIdTaken",
    "UnfitSchema",
    "Worker",
]


def __getattr__(name: str) -> object:
    # Imported on first use: `ampctl` imports this package too, and starts in a fraction of SQLAlchemy's import time.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from amp_workers import metadata_db, worker

    return getattr(worker if hasattr(worker, name) else metadata_db, name)
