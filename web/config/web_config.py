"""The content of a web configuration file."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from amp_workers.web.tls.context import Tls, TlsSettings


@dataclass(frozen=True)
class WebConfig:
    """The content of one file. users: a bcrypt hash for each name. key_file: the file that contains the TLS key."""

    tls: Tls | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    key_file: Path | None = None

    @property
    def requires_certificates(self) -> bool:
        """Whether TLS refuses clients without a verified certificate."""
        return self.tls is not None and self.tls.settings.client_auth_type is ssl.CERT_REQUIRED

    @property
    def authenticates(self) -> bool:
        """Whether a client needs a password or a certificate."""
        return bool(self.users) or self.requires_certificates

    @property
    def protections(self) -> list[str]:
        """What protects a server with this configuration."""
        settings = TlsSettings() if self.tls is None else self.tls.settings
        protections = {
            "TLS": self.tls,
            "users and their passwords": self.users,
            "the requirement of client certificates": self.requires_certificates,
            "client_allowed_sans": settings.client_allowed_sans,
            "min_version TLS13": settings.min_version is ssl.TLSVersion.TLSv1_3,
        }
        return [name for name, is_there in protections.items() if is_there]
