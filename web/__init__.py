"""What the Admin API and the exporter share to serve HTTP."""

from web.health import health
from web.listen import AddressInUse, ListenAddress
from web.registry import server_registry
from web.server import serve

__all__ = ["AddressInUse", "ListenAddress", "health", "serve", "server_registry"]
