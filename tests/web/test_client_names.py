"""`client_allowed_sans`: the server accepts only some of the clients with a certificate of the authority."""

import resource
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from amp_workers.web.tls.client_certificate import Certificate, check, names, subject
from tests.processes import Processes, eventually, free_port, run, tool
from tests.web.conftest import Authority
from tests.web.servers import CLIENTS, NO_DATABASE, Served, write

pytestmark = pytest.mark.slow


def allow(*names: str) -> str:
    return CLIENTS + "  client_allowed_sans:\n" + "".join(f'    - "{name}"\n' for name in names)


class Clients:
    """A server, and clients with certificates of the same authority."""

    def __init__(self, processes: Processes, directory: Path, authority: Authority, *names: str, **of: str) -> None:
        authority.server()
        self._authority = authority
        self.file = directory / "web.yml"
        write(self.file, allow(*names))
        self.served = Served(processes, "exporter", "--web.config.file", str(self.file), **of)

    def status(self, *names: str, path: str = "/-/healthy", options: tuple[str, ...] = ()) -> int:
        """Return the status that a client with these names gets; 0 if there is no response."""
        chain, key = self._authority.client("client", *names)
        trust = ("--cacert", str(self._authority.file), "--cert", str(chain), "--key", str(key))
        return self.served.ask(path, *trust, *options).status


@pytest.fixture
def clients(processes: Processes, tmp_path: Path, authority: Authority) -> Clients:
    return Clients(processes, tmp_path, authority, "prometheus.example.org", "10.0.0.1", "ops@example.org")


def test_one_name_of_the_list_is_enough(clients: Clients) -> None:
    for name in ("prometheus.example.org", "10.0.0.1", "ops@example.org"):
        assert clients.status(name) == 200
        assert clients.status(name, options=("--tls-max", "1.2")) == 200
    assert clients.status("other.example.org", "prometheus.example.org") == 200
    for name in ("other.example.org", "a.prometheus.example.org", "example.org", "10.0.0.2", "OPS@example.org"):
        assert clients.status(name) == 0
    assert clients.served.ask("/-/healthy", "--insecure").code in {
        55,
        56,
    }  # a TLS alert, or a reset before curl reads it
    clients.served.process.says(
        'msg="TLS handshake failed" address=127.0.0.1 reason="its certificate has none of client_allowed_sans, but '
        "'other.example.org'\""
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tls_session_does_not_outlive_its_certificate(
    clients: Clients, authority: Authority, version: ssl.TLSVersion
) -> None:
    def healthy(session: ssl.SSLSession | None = None) -> ssl.SSLSocket | None:
        """Return a connection that got a response. It stays open: OpenSSL does not resume a session that ended
        uncleanly.
        """
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", clients.served.port), timeout=30))
        try:
            encrypted = stack.enter_context(trusting.wrap_socket(plain, server_hostname="localhost", session=session))
            encrypted.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            return encrypted if encrypted.recv(2**16).startswith(b"HTTP/1.1 200 ") else None
        except OSError:
            return None

    for seconds in (2, 4, 8, 16):  # the minimum, because the machine may be busy
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        trusting = ssl.create_default_context(cafile=authority.file)
        trusting.minimum_version = trusting.maximum_version = version
        trusting.load_cert_chain(*authority.client("client", "10.0.0.1", ends=ends))
        with ExitStack() as stack:
            first = healthy()
            again = healthy(first.session) if first is not None else None
            if first is None or again is None:
                continue
            assert again.session_reused == (version == ssl.TLSVersion.TLSv1_2)
            time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()) + 1)
            assert healthy(first.session) is None
            return
    pytest.fail("nobody was let in")


NAMES = [
    x509.UniformResourceIdentifier("spiffe://example.org/prometheus"),
    x509.DirectoryName(x509.Name([])),
    x509.IPAddress(IPv6Address("2001:db8::1")),
    x509.DNSName("prometheus.example.org"),
]
SUBJECT = x509.Name(
    [
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example, Inc."),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "prometheus\n"),
    ]
)


def as_python_reads_it(file: Path, subject_name: x509.Name, *names: x509.GeneralName) -> Certificate:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = x509.CertificateBuilder(subject_name, subject_name, key.public_key(), 1, now, now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    authorities = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities.load_verify_locations(file)
    (read,) = authorities.get_ca_certs()
    return read


def test_the_names_and_the_subject_of_a_certificate_are_read(tmp_path: Path) -> None:
    shown = as_python_reads_it(tmp_path / "client.pem", SUBJECT, *NAMES)
    assert subject(shown) == r"CN=prometheus?,O=Example\, Inc."
    assert names(shown) == ["spiffe://example.org/prometheus", "2001:db8::1", "prometheus.example.org"]
    nameless = as_python_reads_it(tmp_path / "client.pem", x509.Name([]))
    assert (subject(nameless), names(nameless)) == ("client certificate", [])
    only_names = as_python_reads_it(tmp_path / "client.pem", x509.Name([]), NAMES[0])
    assert subject(only_names) == "spiffe://example.org/prometheus"


def test_of_the_allowed_names_a_certificate_must_have_one(tmp_path: Path) -> None:
    allowed = ["2001:db8::1"]
    shown = as_python_reads_it(tmp_path / "client.pem", SUBJECT, *NAMES)
    check(shown, allowed, resumed=True)
    other = as_python_reads_it(tmp_path / "client.pem", SUBJECT, NAMES[0])
    with pytest.raises(ssl.SSLError, match=r"client_allowed_sans, but 'spiffe://example\.org/prometheus'"):
        check(other, allowed, resumed=False)
    check(other, [], resumed=False)
    check({}, allowed, resumed=False)  # OpenSSL accepts clients without a certificate, or refuses them


def test_a_connection_that_has_ended_makes_room(processes: Processes, tmp_path: Path, authority: Authority) -> None:
    """The server may open only 44 files."""
    authority.server()
    chain, key = authority.client("client", "10.0.0.1")
    port, file = free_port(), write(tmp_path / "web.yml", allow("10.0.0.1"))
    options = (f"--web.listen-address=127.0.0.1:{port}", "--web.config.file", file)
    limited = ("sh", "-c", 'ulimit -n 300; exec "$0" "$@"', "ampd", "exporter", *options)
    processes.start(*limited, env={"AMP_METADATA_DB_URL": NO_DATABASE}).says("listens on https://")
    curl = [tool("curl"), "-sS", "--max-time", "20", "--cacert", str(authority.file)]
    for _ in range(50):
        run(
            *curl, "--cert", str(chain), "--key", str(key), "--fail", f"https://localhost:{port}/-/healthy"
        ).check_returncode()


def test_more_connections_than_file_descriptors_do_not_stop_the_server(clients: Clients) -> None:
    resource.prlimit(clients.served.serving(), resource.RLIMIT_NOFILE, (200, 200))
    with ExitStack() as stack:
        for _ in range(250):
            stack.enter_context(socket.create_connection(("127.0.0.1", clients.served.port), timeout=30))
        clients.served.process.says("a connection could not be accepted: Too many open files")
    eventually(lambda: clients.status("10.0.0.1") == 200)
    assert clients.served.process.output.count("could not be accepted") < 60, "it tries again without a pause"


def test_a_certificate_of_another_authority_is_refused(clients: Clients, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    chain, key = Authority(tmp_path / "elsewhere").client("client", "prometheus.example.org")
    assert clients.served.ask("/", "--insecure", "--cert", str(chain), "--key", str(key)).status == 0


def test_the_list_is_read_again(clients: Clients) -> None:
    assert clients.status("new.example.org") == 0
    write(clients.file, allow("new.example.org"))
    eventually(lambda: clients.status("new.example.org") == 200)
    assert clients.status("prometheus.example.org") == 0
    write(clients.file, CLIENTS)
    eventually(lambda: clients.status("prometheus.example.org") == 200)
    write(clients.file, allow("10.0.0.1"))
    eventually(lambda: clients.status("prometheus.example.org") == 0)
    eventually(lambda: clients.status("10.0.0.1") == 200)


def test_a_large_answer_arrives_whole(
    processes: Processes, tmp_path: Path, authority: Authority, database: str, sql: Callable[..., list[Any]]
) -> None:
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) SELECT 'worker-' || n, now(), "
        "jsonb_build_object('version', repeat('v', 200)), now(), now() FROM generate_series(1, 10000) AS n"
    )
    clients = Clients(processes, tmp_path, authority, "10.0.0.1", database=database)
    chain, key = authority.client("client", "10.0.0.1")
    trust = ("--cacert", str(authority.file), "--cert", str(chain), "--key", str(key))
    body = clients.served.ask("/metrics", *trust).body
    assert body.count("amp_worker_info{") == 10_000
    assert body.endswith("\n")


def test_a_silent_client_is_cut_off(clients: Clients, authority: Authority) -> None:
    trusting = ssl.create_default_context(cafile=authority.file)
    trusting.load_cert_chain(*authority.client("client", "10.0.0.1"))
    serving = psutil.Process(clients.served.serving())
    files = serving.num_fds()
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", clients.served.port), timeout=30))
            for _ in range(100)
        ]
        idle = [stack.enter_context(trusting.wrap_socket(each, server_hostname="localhost")) for each in silent[:20]]
        for connection in (*silent[20:], *idle):
            assert connection.recv(1) == b""  # raises a timeout if the server does not close it
    eventually(lambda: serving.num_fds() <= files + 4)
    assert "Traceback" not in clients.served.process.output
