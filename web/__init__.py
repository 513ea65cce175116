"""What the Admin API and the exporter share to serve HTTP."""

from amp_workers.web.answers import Answers
from amp_workers.web.compression import compress
from amp_workers.web.exposition_format import exposition_format
from amp_workers.web.health import health
from amp_workers.web.listen import AddressInUse, ListenAddress
from amp_workers.web.registry import server_registry
from amp_workers.web.security import Security, SecurityError
from amp_workers.web.server import serve

__all__ = [
    "AddressInUse",
    "Answers",
    "ListenAddress",
    "Security",
    "SecurityError",
    "compress",
    "exposition_format",
    "health",
    "serve",
    "server_registry",
]
