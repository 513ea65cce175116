"""The content of a web configuration file."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from amp_workers.web.tls.context import Tls


class WebConfigError(Exception):
    """A web configuration file cannot be used; the message names the file, the key and the reason."""


@dataclass(frozen=True)
class WebConfig:
    """The content of one file. users: a bcrypt hash for each name. key_file: the file that holds the TLS key."""

    tls: Tls | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    key_file: Path | None = None

    @property
    def requires_certificates(self) -> bool:
        """Whether TLS refuses clients without a verified certificate."""
        return self.tls is not None and self.tls.settings.client_auth is ssl.CERT_REQUIRED

    @property
    def authenticates(self) -> bool:
        """Whether a client needs a password or a certificate."""
        return bool(self.users) or self.requires_certificates


_PROTECTIONS: Mapping[str, Callable[[WebConfig], object]] = {
    "TLS": lambda config: config.tls,
    "users and their passwords": lambda config: config.users,
    "the requirement of client certificates": lambda config: config.requires_certificates,
    "client_allowed_sans": lambda config: config.tls and config.tls.settings.client_names,
    "min_version TLS13": lambda config: config.tls and config.tls.settings.min_version is ssl.TLSVersion.TLSv1_3,
}


def removed_protections(before: WebConfig, now: WebConfig) -> list[str]:
    """Return what protected a server before, and does not any more."""
    return [name for name, has in _PROTECTIONS.items() if has(before) and not has(now)]
