"""What the Admin API and the exporter share to serve HTTP."""

from amp_workers.web.config.watched import ConfigError
from amp_workers.web.encoding import compress, exposition_format
from amp_workers.web.health import health
from amp_workers.web.metrics import server_registry
from amp_workers.web.policy import Policy

__all__ = ["ConfigError", "Policy", "compress", "exposition_format", "health", "server_registry"]
