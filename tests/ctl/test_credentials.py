"""Tokens and certificates: their use, and that no output shows them."""

import base64
import http.server
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from amp_workers.ctl.connection import Connection
from amp_workers.ctl.errors import InvalidCredentials
from tests.ctl.conftest import fleet
from tests.ctl.contract_api import ContractApi, serving
from tests.processes import free_port, run, run_ampctl, tool

TOKEN = "s3cret-t0ken"


def test_a_token_is_sent_from_the_environment_or_the_option(contract_api: ContractApi) -> None:
    contract_api.token = f"Bearer {TOKEN}"
    url = contract_api.url
    by_environment = run_ampctl("worker", "list", env={"AMP_ADMIN_URL": url, "AMP_AUTH_TOKEN": TOKEN})
    assert by_environment.returncode == 0, by_environment.stderr
    by_option = run_ampctl("--admin-url", url, "--auth-token", TOKEN, "worker", "inspect", "beta")
    assert by_option.returncode == 0, by_option.stderr


def test_a_user_and_a_password_are_sent_as_basic_credentials(contract_api: ContractApi) -> None:
    contract_api.token = f"Basic {base64.b64encode('ops:pass:wörd'.encode()).decode()}"
    done = run_ampctl("--admin-url", contract_api.url, "worker", "list", env={"AMP_AUTH_TOKEN": "ops:pass:wörd"})
    assert done.returncode == 0, done.stderr


def test_a_refusal_has_the_remedy_and_not_the_token(contract_api: ContractApi) -> None:
    contract_api.token = "Bearer another"
    missing = run_ampctl("--admin-url", contract_api.url, "worker", "list")
    assert missing.returncode == 1
    assert "(UNAUTHORIZED); set AMP_AUTH_TOKEN" in missing.stderr
    wrong = run_ampctl("--admin-url", contract_api.url, "worker", "list", env={"AMP_AUTH_TOKEN": TOKEN})
    assert wrong.returncode == 1
    assert "(UNAUTHORIZED); the token was refused" in wrong.stderr
    assert TOKEN not in wrong.stderr


@pytest.mark.parametrize("arguments", [["worker", "list"], ["worker", "check"], ["version"]])
def test_no_token_goes_over_plain_http_to_another_machine(arguments: list[str]) -> None:
    done = run_ampctl("--admin-url", "http://amp.invalid:1610", *arguments, env={"AMP_AUTH_TOKEN": TOKEN})
    assert done.returncode == 2
    assert "is not sent over plain HTTP to amp.invalid" in done.stderr
    assert "use https://, or --insecure" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_token_goes_over_plain_http_with_insecure(contract_api: ContractApi) -> None:
    # 0.0.0.0 is not a loopback address, and reaches this machine.
    contract_api.token = f"Bearer {TOKEN}"
    url = contract_api.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104 - not to listen
    refused = run_ampctl("--admin-url", url, "worker", "list", env={"AMP_AUTH_TOKEN": TOKEN})
    assert refused.returncode == 2
    assert contract_api.asked == []
    allowed = run_ampctl("--admin-url", url, "--insecure", "worker", "list", env={"AMP_AUTH_TOKEN": TOKEN})
    assert allowed.returncode == 0, allowed.stderr


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]"])
def test_loopback_needs_no_tls(host: str) -> None:
    Connection(f"http://{host}:1", TOKEN)


@pytest.mark.parametrize(
    "host",
    ["localhost.example.org", "notlocalhost", "10.0.0.1", "0.0.0.0", "[::]", "127.0.0.1.example.org"],  # noqa: S104 - no listener: a token goes to none of them
)
def test_no_other_address_is_loopback(host: str) -> None:
    with pytest.raises(InvalidCredentials):
        Connection(f"http://{host}:1", TOKEN)


@pytest.mark.parametrize("token", ["", "\n", "two words", "line\nend", "tökén", "user:pass\x00word", "user:pass\nword"])
def test_an_invalid_token_is_reported_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidCredentials) as reported:
        Connection("http://localhost:1", token)
    assert not token.strip() or token not in str(reported.value)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("token", [TOKEN, "ops:hunter2"])
def test_newlines_around_a_token_are_accepted(contract_api: ContractApi, newline: str, token: str) -> None:
    contract_api.token = f"Basic {base64.b64encode(token.encode()).decode()}" if ":" in token else f"Bearer {token}"
    given = f"{newline}{token}{newline}"
    by_environment = run_ampctl("--admin-url", contract_api.url, "worker", "list", env={"AMP_AUTH_TOKEN": given})
    assert by_environment.returncode == 0, by_environment.stderr
    by_option = run_ampctl("--admin-url", contract_api.url, "--auth-token", given, "worker", "list")
    assert by_option.returncode == 0, by_option.stderr


@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "POSIX"])
@pytest.mark.parametrize("token", [TOKEN, "ops:hunter2", f"\n{TOKEN}"])
def test_a_byte_order_mark_is_named(token: str, locale: str) -> None:
    env = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "AMP_AUTH_TOKEN": f"\ufeff{token}"}
    done = run_ampctl("worker", "list", env=env)
    assert done.returncode == 2
    assert "AMP_AUTH_TOKEN begins with a byte order mark (U+FEFF)" in done.stderr
    option = run_ampctl("--auth-token", f"\ufeff{token}", "worker", "list")
    assert "--auth-token begins with a byte order mark (U+FEFF)" in option.stderr
    assert token.strip() not in done.stderr + option.stderr


def test_a_secret_in_the_url_is_refused_and_not_shown() -> None:
    for url in ("http://ops:hunter2@localhost:1", "http://:hunter2@localhost", "http://ops:hunter2/x@localhost:1"):
        done = run_ampctl("--admin-url", url, "worker", "list")
        assert done.returncode == 2
        assert "set AMP_AUTH_TOKEN to user:password" in done.stderr
        assert "hunter2" not in done.stderr


def test_a_token_that_a_server_repeats_is_not_shown(contract_api: ContractApi) -> None:
    contract_api.token = "Bearer another"
    for token in (TOKEN, "ops:hunter2"):
        sent = f"Basic {base64.b64encode(token.encode()).decode()}" if ":" in token else f"Bearer {token}"
        contract_api.says = 400, {"error_code": "X", "error_message": f"bad {token}: {sent}"}
        done = run_ampctl("--admin-url", contract_api.url, "worker", "list", env={"AMP_AUTH_TOKEN": token})
        assert "***" in done.stderr
        for secret in (token, "hunter2", base64.b64encode(token.encode()).decode()):
            assert secret not in done.stderr


def test_a_redirect_is_reported_and_not_followed(contract_api: ContractApi) -> None:
    class Redirect(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{contract_api.url}{self.path}")
            self.end_headers()

    with http.server.HTTPServer(("127.0.0.1", 0), Redirect) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = run_ampctl("--admin-url", url, "worker", "list", env={"AMP_AUTH_TOKEN": TOKEN})
        server.shutdown()
    assert done.returncode == 1
    assert f"redirects to {contract_api.url}/workers; if that is the Admin API, use its address" in done.stderr
    assert contract_api.asked == []


@dataclass(frozen=True)
class Certificates:
    """PEM files of an authority, and of a server at 127.0.0.1 and a client whose certificates it signed."""

    authority: str
    server: str
    server_key: str
    client: str
    client_key: str
    another_authority: str


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    openssl = tool("openssl")
    (directory / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n")

    def make(name: str, *arguments: str) -> str:
        done = run(
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *(
                "-config",
                "openssl.cnf",
                "-subj",
                f"/CN={name}",
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.pem",
                *arguments,
            ),
            cwd=directory,
        )
        assert done.returncode == 0, done.stderr
        return str(directory / f"{name}.pem")

    authority, another = (
        make(name, "-addext", "basicConstraints=critical,CA:TRUE") for name in ("authority", "another")
    )
    signed = ("-CA", "authority.pem", "-CAkey", "authority.key", "-addext", "basicConstraints=critical,CA:FALSE")
    server = make("server", *signed, "-addext", "subjectAltName=IP:127.0.0.1")
    client = make("client", *signed)
    return Certificates(authority, server, _key(server), client, _key(client), another)


def _key(certificate: str) -> str:
    return str(Path(certificate).with_suffix(".key"))


@pytest.fixture(params=[False, True], ids=["TLS", "mutual TLS"])
def secure_api(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[ContractApi]:
    """An API over TLS that requires the token; the second parameter also requires a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    if request.param:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.authority)
    api = fleet()
    api.token = f"Bearer {TOKEN}"
    with serving(api, context) as served:
        yield served


def test_tls_with_an_authority_a_certificate_and_a_token(secure_api: ContractApi, certificates: Certificates) -> None:
    env = {
        "AMP_ADMIN_URL": secure_api.url,
        "AMP_AUTH_TOKEN": TOKEN,
        "AMP_CA_FILE": certificates.authority,
        "AMP_CLIENT_CERT": certificates.client,
        "AMP_CLIENT_KEY": certificates.client_key,
    }
    done = run_ampctl("worker", "list", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("beta ")


@pytest.mark.parametrize("secure_api", [False], indirect=True)
@pytest.mark.parametrize("insecure", [[], ["--insecure"]])
def test_certificates_are_always_verified(
    secure_api: ContractApi, certificates: Certificates, insecure: list[str]
) -> None:
    for authority in ([], ["--ca-file", certificates.another_authority]):
        done = run(
            *("ampctl", "--admin-url", secure_api.url, "--auth-token", TOKEN, *insecure, *authority, "worker", "list")
        )
        assert done.returncode == 1
        assert "its certificate is refused: " in done.stderr
        assert "--ca-file names the authority to trust" in done.stderr
    assert secure_api.asked == []


@pytest.mark.parametrize("secure_api", [False], indirect=True)
def test_a_certificate_for_another_name_is_refused(secure_api: ContractApi, certificates: Certificates) -> None:
    url = secure_api.url.replace("127.0.0.1", "localhost")
    done = run_ampctl("--admin-url", url, "--ca-file", certificates.authority, "worker", "list")
    assert done.returncode == 1
    assert "Hostname mismatch" in done.stderr
    assert "names the authority" not in done.stderr


@pytest.mark.parametrize("secure_api", [True], indirect=True)
def test_a_missing_client_certificate_is_reported(secure_api: ContractApi, certificates: Certificates) -> None:
    done = run_ampctl("--admin-url", secure_api.url, "--ca-file", certificates.authority, "worker", "list")
    assert done.returncode == 1
    assert "cannot reach the Admin API" in done.stderr
    assert "if the server requires a client certificate, give --client-cert and --client-key" in done.stderr


def test_unusable_files_are_reported(certificates: Certificates, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    url = f"https://127.0.0.1:{free_port()}"
    for options, reported in (
        (["--ca-file", "/none.pem"], "cannot use --ca-file /none.pem: No such file or directory"),
        (["--ca-file", str(empty)], f"cannot use --ca-file {empty}: "),
        (["--client-cert", "/none.pem"], "cannot use --client-cert /none.pem: No such file or directory"),
        (
            ["--client-cert", certificates.client, "--client-key", certificates.server_key],
            f"cannot use --client-cert {certificates.client} with --client-key {certificates.server_key}: key values",
        ),
    ):
        done = run_ampctl("--admin-url", url, *options, "worker", "list")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert reported in done.stderr
    alone = run_ampctl("--admin-url", url, "--client-key", certificates.client_key, "worker", "list")
    assert alone.returncode == 2
    assert "--client-key needs --client-cert" in alone.stderr


def test_https_to_a_plain_server_is_reported(contract_api: ContractApi) -> None:
    done = run_ampctl("--admin-url", contract_api.url.replace("http", "https"), "worker", "list")
    assert done.returncode == 1
    assert "the server does not speak TLS; is the scheme http://?" in done.stderr
