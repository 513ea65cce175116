"""Servers in processes of their own, and the responses that curl gets from them."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.admin.contract import assert_described, named
from tests.processes import Process, Processes, eventually, free_port, tool

NO_DATABASE = "postgresql://u:hunter2@127.0.0.1:1/d"

TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
"""A web configuration with the certificate that `Authority.server` writes beside it."""

CLIENTS = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
"""A web configuration that also requires client certificates of the same authority."""

HUNTER2 = "$2b$04$k18lzmIJQr/Q0RbzsATx3uU4.tb9geOTsr4IMO/vHtkMOjeujoU1C"
"""The bcrypt hash of `hunter2`, at the lowest cost."""


@dataclass(frozen=True)
class Answer:
    """A response as curl got it: curl's exit code, and the status, headers and body."""

    code: int
    status: int
    headers: str
    body: str


class Served:
    """A running `ampd exporter` or `ampd admin`. The responses of the Admin API must match its OpenAPI description."""

    def __init__(
        self, processes: Processes, command: str, *options: str, database: str = NO_DATABASE, **environment: str
    ) -> None:
        self.port = free_port()
        self._is_admin = command == "admin"
        self._tls = False
        arguments = (command, "--web.listen-address", f"127.0.0.1:{self.port}", *options)
        self.process: Process = processes.ampd(*arguments, database=database, env=environment)
        self.process.says("listens on http")
        self._scheme = "https" if "listens on https" in self.process.output else "http"
        eventually(lambda: self.ask("/-/healthy", "--insecure").code in {0, 35, 55, 56})

    def url(self, path: str) -> str:
        return f"{self._scheme}://localhost:{self.port}{path}"

    def ask(self, path: str, *options: str) -> Answer:
        command = [tool("curl"), "-sS", "-4", "--max-time", "20", "-D", "-", *options, self.url(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        headers, _, body = done.stdout.partition("\n\n")
        status = int(headers.split(" ", 2)[1]) if headers else 0
        if self._is_admin and status:
            fields = (line.partition(": ") for line in headers.splitlines()[1:])
            sent = named((name, value) for name, _, value in fields)
            method = options[options.index("-X") + 1] if "-X" in options else "GET"
            assert_described(method, path.partition("?")[0], status, sent, body.encode())
        return Answer(done.returncode, status, headers.lower(), body)

    def serving(self) -> int:
        """Return the pid of the server, which is a single process."""
        return self.process.pid


def write(path: Path, text: str) -> str:
    """Replace a file atomically, and return its name."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)
    return str(path)


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the field `reason` of each log line that has one."""
    return [record.reason for record in caplog.records if hasattr(record, "reason")]


def shown_certificate(port: int) -> str:
    return ssl.get_server_certificate(("localhost", port), timeout=10)
