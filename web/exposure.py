"""What an operator is told of a server that others than this machine reach."""

import ipaddress
import logging
import socket

from amp_workers.web.security import Security

_log = logging.getLogger("amp_workers.web")


def is_exposed(listener: socket.socket) -> bool:
    """Tell whether others than this machine reach it."""
    return not ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def warn(name: str, security: Security) -> None:
    """Log what protects a server less than it could be. name: the server's."""
    for path in security.secrets_open_to_all():
        _log.warning("%s can be read by every account of this machine: chmod 600", path)
    if not security.exposed:
        return
    if not security.authenticates:
        _log.warning(
            "%s is open to everybody who reaches this machine%s: give it users or client certificates in a "
            "--web.config.file, or listen on 127.0.0.1",
            name,
            "" if security.tls is not None else ", with neither TLS nor authentication",
        )
    elif security.tls is None:
        _log.warning(
            "%s takes passwords and tokens over the network in the clear: give it a certificate, tls_server_config in "
            "a --web.config.file, or put a proxy with TLS in front",
            name,
        )
