"""Certificates, and the authority that signs them."""

from datetime import datetime
from pathlib import Path

import pytest
import trustme


class Authority:
    """Signs certificates, and writes what a test needs into a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, name: str = "server", key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> tuple[Path, Path]:
        """Write `NAME.pem` and `NAME.key` for localhost, and return their paths."""
        return self._write(name, self._ca.issue_cert("localhost", "127.0.0.1", key_type=key_type))

    def client(self, name: str = "client", *names: str, ends: datetime | None = None) -> tuple[Path, Path]:
        """Write `NAME.pem` and `NAME.key`, for these names or for NAME@example.org, and return their paths."""
        return self._write(name, self._ca.issue_cert(*(names or (f"{name}@example.org",)), not_after=ends))

    def _write(self, name: str, leaf: trustme.LeafCert) -> tuple[Path, Path]:
        chain, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        key.chmod(0o600)
        return chain, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)
