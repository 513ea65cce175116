"""The probe of a server over each protocol that it may serve."""

import socket
from pathlib import Path

import pytest

from amp_workers.ampd.listen_address import ListenAddress
from amp_workers.ampd.self_probe import SelfProbe
from tests.processes import Processes, eventually, frozen
from tests.web.conftest import Authority
from tests.web.servers import CLIENTS, TLS, Served, write

pytestmark = pytest.mark.slow

FILES = {
    "HTTP": "",
    "TLS": TLS,
    "client certificates": CLIENTS,
    "optional certificates": CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),
    "TLS 1.2": CLIENTS + "  max_version: TLS12\n",
    "client names": CLIENTS + "  client_allowed_sans:\n    - prometheus.example.org\n",
}


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_a_server_answers_over_each_protocol(
    processes: Processes, tmp_path: Path, authority: Authority, file: str
) -> None:
    authority.server()
    served = Served(processes, "exporter", "--web.config.file", write(tmp_path / "web.yml", file))
    probe = SelfProbe(ListenAddress("127.0.0.1", served.port))
    assert probe(5)
    # The kernel still accepts connections for it.
    with frozen(served.serving()):
        assert not probe(0.3)
    eventually(lambda: probe(5))
    assert served.process.stop() == 0
    assert not probe(5)


def test_an_accepted_connection_is_not_a_response() -> None:
    """The kernel accepts the connection; a server whose event loop hangs never reads from it."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        assert not SelfProbe(ListenAddress("127.0.0.1", hanging.getsockname()[1]))(0.3)
