"""What a web configuration protects a server with, and what another one would take away."""

from collections.abc import Callable

from amp_workers.web.config_file import WebConfig

_PROTECTIONS: tuple[tuple[str, Callable[[WebConfig], object]], ...] = (
    ("TLS", lambda config: config.tls),
    ("users and their passwords", lambda config: config.users),
    ("clients' certificates", lambda config: config.demands_certificates),
    ("client_allowed_sans", lambda config: config.tls and config.tls.client_names),
    ("min_version TLS13", lambda config: config.tls and config.tls.oldest == "tls1.3"),
)


def taken_away(before: WebConfig, now: WebConfig) -> list[str]:
    """Return what protected a server before, and does not any more."""
    return [name for name, has in _PROTECTIONS if has(before) and not has(now)]


def authenticates(config: WebConfig) -> bool:
    """Tell whether anybody has to show who they are, tokens aside."""
    return bool(config.users) or config.demands_certificates
