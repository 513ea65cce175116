"""TLS, as curl, Python and Prometheus meet it."""

import signal
import ssl
import threading
import time
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from tests.processes import Processes, eventually, free_port, get, tool
from tests.web.conftest import Authority
from tests.web.servers import CLIENTS, HUNTER2, TLS, Served, shown_certificate, write
from tests.web.test_config_file import HASH, POLICIES, self_signed


def context(authority: Authority, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    trusting = ssl.create_default_context(cafile=authority.file)
    if newest is not None:
        trusting.maximum_version = newest
    return trusting


@pytest.mark.parametrize("command", ["exporter", "admin"])
def test_it_serves_tls_and_nothing_else(
    processes: Processes, tmp_path: Path, authority: Authority, command: str
) -> None:
    authority.server()
    served = Served(processes, command, "--web.config.file", write(tmp_path / "web.yml", TLS))
    trust = ("--cacert", str(authority.file))
    assert served.ask("/metrics", *trust).status == 200
    assert served.ask("/metrics", *trust, "--tlsv1.2", "--tls-max", "1.2").status == 200
    assert served.ask("/metrics", *trust, "--tlsv1.3").status == 200
    assert served.ask("/metrics", *trust, "--http2").status == 200
    assert served.ask("/metrics").code == 60  # nobody whom it trusts
    with pytest.raises((OSError, HTTPException)):
        get(f"http://localhost:{served.port}/metrics")
    assert served.process.stop() == 0


def test_an_old_client_is_refused_where_the_file_says_so(
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


def test_a_client_must_show_a_certificate_where_the_file_says_so(
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
        # Not both at once: in between, the key is not the certificate's.
        chain, key = authority.server("new")
        write(tmp_path / "server.pem", chain.read_text())
        served.process.says("this is not the key of the certificate")
        assert shown_certificate(served.port) == first
        write(tmp_path / "server.key", key.read_text())
        eventually(lambda: shown_certificate(served.port) != first, 30)
        eventually(lambda: len(served.process.descendants()) == 1, 30)  # the one before is gone
        second = shown_certificate(served.port)
        assert second != first
    finally:
        stop.set()
        asking.join()
    # Only who was in the middle of a handshake with the process that ended has to come again.
    assert set(answers) <= {200, 0}
    assert answers.count(0) <= 2
    assert served.process.output.count("this is not the key") == 1
    assert served.process.output.count("read again: ") == 1


def test_a_certificate_that_the_server_does_not_take_ends_nothing(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    authority.server()
    served = Served(processes, "exporter", "--web.config.file", write(tmp_path / "web.yml", TLS))
    first, serving = shown_certificate(served.port), served.serving()
    (tmp_path / "odd").mkdir()
    self_signed(tmp_path / "odd", ec.generate_private_key(ec.SECP256R1()), extension=POLICIES)
    for name in ("server.key", "server.pem"):
        (tmp_path / "odd" / name).rename(tmp_path / name)
    served.process.says("the server does not take them: InvalidCertificate(Other(OtherError(UnsupportedCriticalExten")
    time.sleep(2.5)  # long enough to say it twice more
    assert served.process.output.count("does not take them") == 1
    assert (shown_certificate(served.port), served.serving()) == (first, serving)


def test_an_odd_serial_number_makes_no_line_of_its_own(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    chain, _ = authority.server()
    encoded = bytearray(ssl.PEM_cert_to_DER_cert(chain.read_text()))
    encoded[encoded.index(bytes.fromhex("a003020102")) + 7] |= 0x80  # negative
    chain.write_text(ssl.DER_cert_to_PEM_cert(bytes(encoded)))
    served = Served(processes, "exporter", "--web.config.file", write(tmp_path / "web.yml", TLS))
    assert shown_certificate(served.port) == chain.read_text()
    assert all(" level=" in line for line in served.process.output.splitlines())


def test_what_it_has_survives_kill(processes: Processes, tmp_path: Path, authority: Authority) -> None:
    authority.server()
    served = Served(processes, "exporter", "--web.config.file", write(tmp_path / "web.yml", TLS))
    first = shown_certificate(served.port)
    for name in ("server.pem", "server.key", "web.yml"):
        write(tmp_path / name, "rubbish")
    served.process.says("what was read before stays")
    before = served.serving()
    psutil.Process(before).send_signal(signal.SIGKILL)
    eventually(lambda: shown_certificate(served.port) == first and served.serving() != before, 30)


def test_a_file_that_becomes_rubbish_is_told_once(processes: Processes, tmp_path: Path) -> None:
    file = write(tmp_path / "web.yml", f"basic_auth_users:\n  alice: {HASH}\n")
    served = Served(processes, "exporter", "--web.config.file", file)
    write(tmp_path / "web.yml", "basic_auth_users: {}\nnonsense: 1\n")
    served.process.says("nonsense is no key")
    time.sleep(2.5)  # long enough to say it twice more
    assert served.process.output.count("nonsense") == 1
    assert served.ask("/metrics").status == 401
    write(tmp_path / "web.yml", "")
    eventually(lambda: served.ask("/metrics").status == 200)


@pytest.mark.parametrize("command", ["exporter", "admin"])
def test_a_bad_file_is_one_line_and_no_start(processes: Processes, tmp_path: Path, command: str) -> None:
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
    eventually(lambda: '"1"]' in get(query), 30)
