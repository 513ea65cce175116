"""TLS, with curl, Python and Prometheus as clients."""

import re
import signal
import ssl
import sys
import threading
import time
from contextlib import closing
from functools import partial
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import pytest
import yaml

from tests.conftest import Insert
from tests.processes import ROOT, Processes, eventually, free_port, get, tool
from tests.web.conftest import Authority
from tests.web.servers import CLIENTS, HUNTER2, TLS, Served, shown_certificate, write
from tests.web.test_config_file import HASH

pytestmark = pytest.mark.slow

TLS12 = ("--tlsv1.2", "--tls-max", "1.2")
AES128 = "ECDHE-ECDSA-AES128-GCM-SHA256"


def context(authority: Authority, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    trusting = ssl.create_default_context(cafile=authority.file)
    if newest is not None:
        trusting.maximum_version = newest
    return trusting


@pytest.mark.parametrize("command", ["exporter", "admin"])
def test_a_server_with_tls_refuses_plain_http(
    processes: Processes, tmp_path: Path, authority: Authority, command: str
) -> None:
    authority.server()
    served = Served(processes, command, "--web.config.file", write(tmp_path / "web.yml", TLS))
    trust = ("--cacert", str(authority.file))
    assert served.ask("/metrics", *trust).status == 200
    assert served.ask("/metrics", *trust, "--tlsv1.2", "--tls-max", "1.2").status == 200
    assert served.ask("/metrics", *trust, "--tlsv1.3").status == 200
    assert served.ask("/metrics", *trust, "--http2").status == 200
    assert served.ask("/metrics").code == 60  # an unknown authority
    with pytest.raises((OSError, HTTPException)):
        get(f"http://localhost:{served.port}/metrics")
    assert served.process.stop() == 0


def test_an_old_client_is_refused_if_the_file_requires_a_newer_version(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    authority.server()
    served = Served(
        processes, "exporter", "--web.config.file", write(tmp_path / "w.yml", TLS + "  min_version: TLS13\n")
    )
    trust = ("--cacert", str(authority.file))
    assert served.ask("/", *trust).status == 200
    assert served.ask("/", *trust, "--tls-max", "1.2").code != 0
    assert ssl.get_server_certificate(("localhost", served.port), timeout=10)


def test_a_client_must_present_a_certificate_if_the_file_requires_one(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    authority.server()
    chain, key = authority.client()
    (tmp_path / "elsewhere").mkdir()
    stranger_chain, stranger_key = Authority(tmp_path / "elsewhere").client()
    served = Served(processes, "exporter", "--web.config.file", write(tmp_path / "web.yml", CLIENTS))
    trust = ("--cacert", str(authority.file))
    assert served.ask("/", *trust, "--cert", str(chain), "--key", str(key)).status == 200
    assert served.ask("/", *trust).status == 0
    assert served.ask("/-/healthy", *trust).status == 0
    assert served.ask("/", *trust, "--cert", str(stranger_chain), "--key", str(stranger_key)).status == 0


def test_a_certificate_is_renewed_without_a_restart(processes: Processes, tmp_path: Path, authority: Authority) -> None:
    authority.server()
    file = write(tmp_path / "web.yml", TLS)
    served = Served(processes, "exporter", "--web.config.file", file)
    first = shown_certificate(served.port)
    answers: list[int] = []
    stop = threading.Event()

    def ask_all_the_time() -> None:
        while not stop.is_set():
            answers.append(served.ask("/", "--cacert", str(authority.file)).status)

    asking = threading.Thread(target=ask_all_the_time)
    asking.start()
    try:
        # Not both at once: between the two writes, the key does not match the certificate.
        chain, key = authority.server("new")
        write(tmp_path / "server.pem", chain.read_text())
        served.process.says("this is not the key of the certificate")
        assert shown_certificate(served.port) == first
        write(tmp_path / "server.key", key.read_text())
        eventually(lambda: shown_certificate(served.port) != first)
    finally:
        stop.set()
        asking.join()
    assert set(answers) == {200}
    assert served.process.output.count("this is not the key") == 1
    assert served.process.output.count("configuration reloaded") == 1


SLOW = """
import sys, time
from pathlib import Path

from flask import Flask, request

from amp_workers.ampd.listen_address import ListenAddress
from amp_workers.ampd.server import run_server
from amp_workers.web import Policy


def create(registry):
    app = Flask("slow")

    @app.get("/slow")
    def slow():
        time.sleep(float(request.args["seconds"]))
        return str(request.remote_addr).ljust(2_000_000)

    @app.get("/who")
    def who():
        return f"{request.environ.get('REMOTE_USER')} from {request.remote_addr}"

    return app


addresses = [ListenAddress("127.0.0.1", int(port)) for port in sys.argv[2:]]
run_server(create, addresses, Policy(Path(sys.argv[1])), name="slow", threads=4)
"""
"""A server with endpoints of a test, on several ports. Python's start method of processes does not matter to it."""


SUBJECT = r"OU=Testing cert #\S+,O=trustme v\S+ from 127\.0\.0\.1"


class Slow:
    """A server that serves SLOW, with client certificates of one authority and with files in a directory."""

    def __init__(self, processes: Processes, directory: Path, authority: Authority, text: str, ports: int = 1) -> None:
        self.ports = [free_port() for _ in range(ports)]
        self.file = directory / "web.yml"
        authority.server()
        write(self.file, text)
        forkserver = "import multiprocessing\nmultiprocessing.set_start_method('forkserver')\n"
        arguments = (str(self.file), *map(str, self.ports))
        self.process = processes.start(sys.executable, "-c", forkserver + SLOW, *arguments, cwd=ROOT)
        self._trusted = authority.file.read_text()
        for port in self.ports:
            eventually(partial(shown_certificate, port))

    def connect(self, client: tuple[Path, Path] | None = None, port: int | None = None) -> HTTPSConnection:
        """Open a connection that stays open. Its handshake takes place at its first request."""
        trusting = ssl.create_default_context(cadata=self._trusted)
        if client is not None:
            trusting.load_cert_chain(*client)
        return HTTPSConnection("localhost", port or self.ports[0], timeout=30, context=trusting)


def get_body(connection: HTTPSConnection, path: str = "/who") -> str:
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    return response.read().decode()


def is_refused(connection: HTTPSConnection) -> bool:
    with closing(connection):
        try:
            get_body(connection)
        except (OSError, HTTPException):
            return True
    return False


def test_a_reload_cuts_no_running_response_and_no_connection(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    served = Slow(processes, tmp_path, authority, TLS, ports=2)
    with closing(served.connect()) as running, closing(served.connect(port=served.ports[1])) as idle:
        assert get_body(idle) == "None from 127.0.0.1"
        running.request("GET", "/slow?seconds=10")
        first = shown_certificate(served.ports[0])
        authority.server()
        eventually(lambda: shown_certificate(served.ports[0]) != first)
        write(served.file, TLS + "  min_version: TLS13\n")
        assert get_body(idle) == "None from 127.0.0.1"
        assert running.getresponse().read() == b"127.0.0.1".ljust(2_000_000)
        assert get_body(running) == "None from 127.0.0.1"


def test_a_removed_authority_refuses_the_next_handshake_alone(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    served = Slow(processes, tmp_path, authority, CLIENTS)
    ours, stranger = authority.client("ann"), other.client("bob")
    assert is_refused(served.connect())
    assert is_refused(served.connect(stranger))
    with closing(served.connect(ours)) as old:
        assert re.fullmatch(SUBJECT, get_body(old))
        write(tmp_path / "ca.pem", other.file.read_text())
        eventually(lambda: is_refused(served.connect(ours)))
        assert not is_refused(served.connect(stranger))
        assert re.fullmatch(SUBJECT, get_body(old))


def test_a_tightened_client_auth_type_refuses_the_next_handshake_alone(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    optional = CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
    served = Slow(processes, tmp_path, authority, optional)
    with closing(served.connect()) as old:
        assert get_body(old) == "None from 127.0.0.1"
        write(served.file, CLIENTS)
        eventually(lambda: is_refused(served.connect()))
        assert not is_refused(served.connect(authority.client("ann")))
        assert get_body(old) == "None from 127.0.0.1"


def test_a_certificate_if_given_is_verified_and_names_its_client(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    optional = CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
    served = Slow(processes, tmp_path, authority, optional)
    (tmp_path / "other").mkdir()
    with closing(served.connect()) as anonymous, closing(served.connect(authority.client("ann"))) as ann:
        assert get_body(anonymous) == "None from 127.0.0.1"
        assert re.fullmatch(SUBJECT, get_body(ann))
    assert is_refused(served.connect(Authority(tmp_path / "other").client("bob")))


def test_the_log_line_of_a_delete_has_the_address_and_the_certificate(
    processes: Processes, tmp_path: Path, authority: Authority, database: str, insert_worker: Insert
) -> None:
    authority.server()
    chain, key = authority.client("ann")
    users = write(tmp_path / "web.yml", CLIENTS + f"basic_auth_users: {{operator: {HUNTER2}}}\n")
    served = Served(processes, "admin", "--web.config.file", users, database=database)
    insert_worker("w", 300)
    client = ("--cacert", str(authority.file), "--cert", str(chain), "--key", str(key), "-u", "operator:hunter2")
    assert served.ask("/workers/w", "-X", "DELETE", *client).status == 204
    served.process.says("was deleted")
    [line] = [line for line in served.process.output.splitlines() if "was deleted" in line]
    fields = r'node_id=w user=operator certificate="OU=[^"]+,O=trustme [^"]+" address=127\.0\.0\.1'
    assert re.search(f"'operator'.* {fields}$", line), line


def test_running_responses_end_before_the_process_does(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    served = Slow(processes, tmp_path, authority, TLS)
    with closing(served.connect()) as running, closing(served.connect()) as endless, closing(served.connect()) as idle:
        get_body(idle)
        for connection, seconds in ((running, 1), (endless, 60)):
            connection.request("GET", f"/slow?seconds={seconds}")
        time.sleep(0.3)
        served.process.signal(signal.SIGTERM)
        response = running.getresponse()
        assert response.read() == b"127.0.0.1".ljust(2_000_000)
        assert response.headers["Connection"] == "close"
        # A response that does not end is cut off at the time limit, and its thread does not delay the exit.
        assert served.process.wait(30) == 0
        with pytest.raises((OSError, HTTPException)):
            endless.getresponse()


@pytest.mark.parametrize(
    ("lines", "options", "works"),
    [
        ("  max_version: TLS12\n", ("--tlsv1.3",), False),
        ("  max_version: TLS12\n", (), True),
        ("  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n", TLS12, True),
        ("  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n", (*TLS12, "--ciphers", AES128), False),
        ("  curve_preferences: [CurveP384]\n", ("--curves", "P-384"), True),
        ("  curve_preferences: [CurveP384]\n", ("--curves", "X25519"), False),
    ],
)
def test_versions_suites_and_curves_hold(
    processes: Processes, tmp_path: Path, authority: Authority, lines: str, options: tuple[str, ...], works: bool
) -> None:
    authority.server()
    served = Served(processes, "exporter", "--web.config.file", write(tmp_path / "web.yml", TLS + lines))
    assert (served.ask("/", "--cacert", str(authority.file), *options).status == 200) == works


def test_a_file_that_becomes_invalid_is_logged_once(processes: Processes, tmp_path: Path) -> None:
    file = write(tmp_path / "web.yml", f"basic_auth_users:\n  alice: {HASH}\n")
    served = Served(processes, "exporter", "--web.config.file", file)
    write(tmp_path / "web.yml", "basic_auth_users: {}\nnonsense: 1\n")
    served.process.says("nonsense is not a key")
    time.sleep(2.5)  # enough time for two more reloads
    assert served.process.output.count("nonsense") == 1
    assert served.ask("/metrics").status == 401
    write(tmp_path / "web.yml", "")
    eventually(lambda: served.ask("/metrics").status == 200)


@pytest.mark.parametrize("command", ["exporter", "admin"])
def test_an_invalid_file_prevents_the_start_with_one_line(processes: Processes, tmp_path: Path, command: str) -> None:
    (tmp_path / "web.yml").write_text("tls_server_config:\n  cert_file: no.pem\n  key_file: no.key\n")
    process = processes.ampd(command, "--web.config.file", str(tmp_path / "web.yml"), database="postgresql://h/d")
    assert process.wait() == 1
    assert process.output == (
        f"Error: {tmp_path}/web.yml: tls_server_config.cert_file: {tmp_path}/no.pem: No such file or directory\n"
    )


def test_prometheus_scrapes_over_tls_with_a_password(
    processes: Processes, tmp_path: Path, authority: Authority, database: str
) -> None:
    authority.server()
    text = TLS + "basic_auth_users:\n  prometheus: " + HUNTER2 + "\n"
    served = Served(processes, "exporter", "--web.config.file", write(tmp_path / "web.yml", text), database=database)
    port = free_port()
    scrape = {
        "job_name": "amp",
        "scheme": "https",
        "basic_auth": {"username": "prometheus", "password": "hunter2"},
        "tls_config": {"ca_file": str(authority.file), "server_name": "localhost"},
        "static_configs": [{"targets": [f"127.0.0.1:{served.port}"]}],
    }
    configuration = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    processes.start(
        tool("prometheus"),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    query = f"http://127.0.0.1:{port}/api/v1/query?query=amp_metadata_db_up"
    eventually(lambda: '"1"]' in get(query))
