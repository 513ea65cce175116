"""What the Admin API and the exporter share to serve HTTP."""

from web.answers import Answers
from web.compression import compress
from web.exposition_format import exposition_format
from web.health import health
from web.listen import AddressInUse, ListenAddress
from web.registry import server_registry
from web.security import Security, SecurityError
from web.server import serve

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
