"""What the Admin API and the exporter share to serve HTTP."""

from amp_workers.web.encoding import compress, exposition_format
from amp_workers.web.errors import ConfigError
from amp_workers.web.health import health
from amp_workers.web.metrics import server_registry
from amp_workers.web.policy import Policy
from amp_workers.web.single_flight import SingleFlight

__all__ = [
    "ConfigError",
    "Policy",
    "SingleFlight",
    "compress",
    "exposition_format",
    "health",
    "server_registry",
]
