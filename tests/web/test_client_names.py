"""`client_allowed_sans`: of those who have a certificate of the authority, only some are let in."""

import os
import resource
import signal
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

from amp_workers.web.terminator import names_of
from tests.processes import Processes, eventually, free_port, run, tool
from tests.web.conftest import Authority
from tests.web.servers import CLIENTS, NO_DATABASE, Served, shown_certificate, write


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
        """What a client with these names gets; 0 is no answer."""
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
    assert clients.served.ask("/-/healthy", "--insecure").code == 56  # told by an alert; 52 is no word at all
    clients.served.process.says(
        "127.0.0.1 was refused: of client_allowed_sans, its certificate has none, but 'other.example.org'"
    )


def test_an_old_client_is_refused_where_the_file_says_so(clients: Clients) -> None:
    serving = clients.served.serving()
    write(clients.file, allow("10.0.0.1") + "  min_version: TLS13\n")
    eventually(lambda: not psutil.pid_exists(serving), 30)
    assert clients.status("10.0.0.1") == 200
    assert clients.status("10.0.0.1", options=("--tls-max", "1.2")) == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_does_not_outlive_its_certificate(
    clients: Clients, authority: Authority, version: ssl.TLSVersion
) -> None:
    def healthy(session: ssl.SSLSession | None = None) -> ssl.SSLSocket | None:
        """A connection with an answer, if it is let in. It stays open: none is resumed that ended without a word."""
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", clients.served.port), timeout=30))
        try:
            encrypted = stack.enter_context(trusting.wrap_socket(plain, server_hostname="localhost", session=session))
            encrypted.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            return encrypted if encrypted.recv(2**16).startswith(b"HTTP/1.1 200 ") else None
        except OSError:
            return None

    for seconds in (2, 4, 8, 16):  # as few as a busy machine allows
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
    x509.IPAddress(IPv6Address("::1")),
    x509.DNSName("prometheus.example.org"),
]
SAN = x509.SubjectAlternativeName(NAMES)


@pytest.mark.parametrize(
    ("extensions", "names"),
    [
        ([SAN], ["prometheus.example.org", "::1", "spiffe://example.org/prometheus"]),
        ([], []),
        ([x509.UnrecognizedExtension(SAN.oid, bytes.fromhex("3003020105"))], []),
        ([x509.UnrecognizedExtension(SAN.oid, bytes.fromhex("3002a300"))], []),
        ([x509.UnrecognizedExtension(x509.KeyUsage.oid, b"x"), SAN], []),
    ],
    ids=["those that are compared", "none", "a number", "of a kind that nobody has", "beside what cannot be read"],
)
def test_the_names_of_a_certificate_are_read(extensions: list[x509.ExtensionType], names: list[str]) -> None:
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    assert names_of(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)) == names


def test_a_connection_that_has_ended_makes_room(processes: Processes, tmp_path: Path, authority: Authority) -> None:
    """Where there are files for 42 at a time, the least that there is."""
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


def test_more_connections_than_there_are_files_for_do_not_end_it(clients: Clients) -> None:
    resource.prlimit(clients.served.serving(), resource.RLIMIT_NOFILE, (200, 200))
    with ExitStack() as stack:
        for _ in range(250):
            stack.enter_context(socket.create_connection(("127.0.0.1", clients.served.port), timeout=30))
        clients.served.process.says("a connection could not be accepted: Too many open files", 30)
    eventually(lambda: clients.status("10.0.0.1") == 200, 30)
    assert clients.served.process.output.count("could not be accepted") < 60, "it tries again without a pause"


def test_a_stranger_with_the_name_stays_out(clients: Clients, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    chain, key = Authority(tmp_path / "elsewhere").client("client", "prometheus.example.org")
    assert clients.served.ask("/", "--insecure", "--cert", str(chain), "--key", str(key)).status == 0


def test_nobody_else_on_the_machine_reaches_the_server_behind(clients: Clients) -> None:
    serving = psutil.Process(clients.served.serving())
    names = {str(each.laddr) for each in serving.net_connections("unix")} - {""}
    assert names, "it listens on none, and this test tells nothing"
    assert not [name for name in names if name.startswith("@") or Path(name).exists()]
    ports = {each.laddr.port for each in serving.net_connections("tcp") if each.status == "LISTEN"}
    assert ports == {clients.served.port}


def test_the_list_is_read_again(clients: Clients) -> None:
    assert clients.status("new.example.org") == 0
    write(clients.file, allow("new.example.org"))
    eventually(lambda: clients.status("new.example.org") == 200, 30)
    eventually(lambda: len(clients.served.process.descendants()) == 1, 30)
    assert clients.status("prometheus.example.org") == 0
    write(clients.file, CLIENTS)
    eventually(lambda: clients.status("prometheus.example.org") == 200, 30)
    write(clients.file, allow("10.0.0.1"))
    eventually(lambda: clients.status("prometheus.example.org") == 0, 30)
    eventually(lambda: clients.status("10.0.0.1") == 200, 30)


def test_a_renewed_certificate_is_shown_and_a_kill_survived(clients: Clients, authority: Authority) -> None:
    first = shown_certificate(clients.served.port)
    before = clients.served.serving()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: clients.status("10.0.0.1") == 200 and clients.served.serving() != before, 30)
    authority.server()
    eventually(lambda: shown_certificate(clients.served.port) != first, 30)
    eventually(lambda: clients.status("10.0.0.1") == 200, 30)
    assert clients.served.process.stop() == 0


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


def test_who_says_nothing_is_cut_off(clients: Clients, authority: Authority) -> None:
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
            assert connection.recv(1) == b""  # a timeout, if it is not closed
    eventually(lambda: serving.num_fds() <= files + 4, 30)
    assert "Traceback" not in clients.served.process.output
