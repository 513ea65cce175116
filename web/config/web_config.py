"""The content of a web configuration file."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class WebConfig:
    """The content of one file.

    tls: for connections that are accepted from now on. client_allowed_sans: subject alternative names, one of which a
    client's certificate must have; empty: any name. users: a bcrypt hash for each name. key_file: the file that
    contains the TLS key.
    """

    tls: ssl.SSLContext | None = None
    client_allowed_sans: Sequence[str] = ()
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    key_file: Path | None = None

    @property
    def requires_certificates(self) -> bool:
        """Whether TLS refuses clients without a verified certificate."""
        return self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED

    @property
    def authenticates(self) -> bool:
        """Whether a client needs a password or a certificate."""
        return bool(self.users) or self.requires_certificates

    @property
    def protections(self) -> list[str]:
        """What protects a server with this configuration."""
        protections = {
            "TLS": self.tls,
            "users and their passwords": self.users,
            "the requirement of client certificates": self.requires_certificates,
            "client_allowed_sans": self.client_allowed_sans,
            "min_version TLS13": self.tls and self.tls.minimum_version is ssl.TLSVersion.TLSv1_3,
        }
        return [name for name, is_there in protections.items() if is_there]
