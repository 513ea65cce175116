"""Secrets do not leak: the test plants them, makes every part fail, and searches all output."""

import base64
import http.client
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.web import ConfigError, Policy
from tests.admin.contract import assert_described, named
from tests.clusters import own_postgres
from tests.e2e.passwords import ask_for_password
from tests.e2e.secrets import (
    AUTH_TOKEN,
    DATABASE_PASSWORD,
    FILE_TOKEN,
    PLANTED,
    TLS_CERTIFICATE,
    TLS_KEY,
    USER_HASH,
    USER_PASSWORD,
    forms,
    found,
)
from tests.processes import Process, Processes, command_lines, eventually, free_port, get, run
from tests.relay import Relay, socket_of

pytestmark = pytest.mark.slow

ENVIRONMENT = {"AMP_AUTH_TOKEN": AUTH_TOKEN}
"""The environment of each process here: a process that does not need a secret must not show it either."""

PATHS = ("/metrics", "/workers", "/workers/w", "/workers/1", "/openapi.json", "/-/healthy", "/-/ready", "/", "/nothing")

# A server must neither return nor log what a client sends, not even in the wrong place.
HEADERS = {
    "Authorization": f"Bearer {AUTH_TOKEN}",
    "Cookie": f"token={AUTH_TOKEN}",
    "X-Prometheus-Scrape-Timeout-Seconds": AUTH_TOKEN,
}
BASIC = base64.b64encode(f"alice:{USER_PASSWORD}".encode()).decode()
CREDENTIALS = [
    HEADERS,
    HEADERS | {"Authorization": f"Bearer {FILE_TOKEN}"},
    HEADERS | {"Authorization": f"Basic {BASIC}"},
]


@pytest.fixture(scope="module")
def server(open_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that logs each statement. Its role `amp` first has a password other than the planted one."""
    with own_postgres(open_directory / "leaks") as started:
        with psycopg.connect(started.url, autocommit=True) as connection:
            connection.execute("CREATE ROLE amp LOGIN")
            connection.execute("GRANT ALL ON workers TO amp")
            for setting, value in (
                ("log_statement", "all"),
                ("log_connections", "on"),
                ("log_min_error_statement", "debug5"),
                ("log_parameter_max_length_on_error", "-1"),
            ):
                connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'".encode())
            set_password(connection, "another")
            ask_for_password(started, connection, "amp")
        yield started


def set_password(connection: psycopg.Connection[object], password: str) -> None:
    """The test hashes the password, as psql does: otherwise its own statement would put it into the log."""
    hashed = connection.pgconn.encrypt_password(password.encode(), b"amp", b"scram-sha-256").decode()
    connection.execute(f"ALTER ROLE amp PASSWORD '{hashed}'".encode())


def urls(port: int) -> dict[str, str]:
    """Return URLs of a metadata DB on this port, of an unavailable one, and invalid ones."""
    password = quote(DATABASE_PASSWORD, safe="")
    return {
        "here": f"postgresql://amp:{password}@127.0.0.1:{port}/postgres?sslmode=disable",
        "as a parameter": f"postgresql://127.0.0.1:{port}/postgres?user=amp&sslmode=disable&password={password}",
        "away": f"postgresql://amp:{password}@127.0.0.1:1/postgres",
        "in the wrong place": f"postgresql://amp@127.0.0.1:{port}/postgres?passwort={password}",
        "not encoded": f"postgresql://amp:{DATABASE_PASSWORD}@127.0.0.1:{port}/postgres",
        "of another kind": f"mysql://amp:{DATABASE_PASSWORD}@127.0.0.1:{port}/postgres",
        "no URL": f"host=127.0.0.1 user=amp password='{DATABASE_PASSWORD}'",
    }


def asked(port: int, *, is_admin: bool) -> bytes:
    """Return all responses of a server, headers and bodies, of any status. Those of the Admin API must be described."""
    answers = b""
    for path in PATHS:
        for method, headers in (("POST", HEADERS), *(("GET", each) for each in CREDENTIALS)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request(method, f"{path}?token={quote(AUTH_TOKEN, safe='')}", headers=headers)
            response = connection.getresponse()
            body = response.read()
            connection.close()
            if is_admin:
                assert_described(method, path, response.status, named(response.getheaders()), body)
            answers += str(response.headers).encode() + body
    return answers


class Fleet:
    """The long-running processes, and their output so far."""

    def __init__(self, processes: Processes, url: dict[str, str], credential: Path) -> None:
        self.admin = free_port()
        self.ports = [self.admin, free_port()]
        listen = [f"--web.listen-address=127.0.0.1:{port}" for port in self.ports]
        credential.write_text(url["here"])
        tokens, users = credential.with_name("tokens"), credential.with_name("users.yml")
        tokens.write_text(f"{FILE_TOKEN}\n")
        users.write_text(f"basic_auth_users:\n  alice: {USER_HASH}\n")
        safe = ("--auth-token-file", str(tokens), "--web.config.file", str(users))
        program = ["sh", "-c", "cat /proc/self/cmdline; exec sleep 300"]
        env = ENVIRONMENT | {"AMP_LOG": "debug"}
        self.processes: dict[str, Process] = {
            "the worker": processes.ampd("worker", "--node-id=w", database=url["here"], env=env),
            "the worker with a program": processes.ampd(
                "worker", "--node-id=p", "--metadata-db-url", url["as a parameter"], "--", *program, env=env
            ),
            "admin": processes.ampd("admin", listen[0], f"--metadata-db-url={url['here']}", *safe, env=env),
            "exporter": processes.ampd("exporter", listen[1], "--metadata-db-url-file", str(credential), env=env),
        }
        self.places: dict[str, bytes] = {}
        for port in self.ports:
            eventually(partial(get, f"http://127.0.0.1:{port}/-/healthy"), 30)

    def look(self, moment: str) -> None:
        """Store what is visible from outside at this moment."""
        for port in self.ports:
            self.places[f"the answers on port {port} {moment}"] = self.asked(port)
        for name, process in self.processes.items():
            pids = [process.pid, *(child.pid for child in process.descendants())]
            self.places[f"the command lines of {name} {moment}"] = command_lines(*pids).encode()

    def asked(self, port: int) -> bytes:
        return asked(port, is_admin=port == self.admin)

    def logs(self) -> dict[str, bytes]:
        return {f"the output of {name}": process.output.encode() for name, process in self.processes.items()}


def test_no_secret_leaks_when_every_part_fails(processes: Processes, server: EmbeddedPostgres, tmp_path: Path) -> None:
    relay = Relay(socket_of(server))
    fleet = Fleet(processes, urls(relay.port), tmp_path / "metadata-db-url")
    with psycopg.connect(server.url, autocommit=True) as connection:
        for process in fleet.processes.values():
            eventually(lambda: [fleet.asked(port) for port in fleet.ports])
            process.says("password authentication failed")
        fleet.look("with the password refused")

        set_password(connection, DATABASE_PASSWORD)
        fleet.processes["the worker"].says("registered")
        fleet.processes["the worker with a program"].says("registered")
        eventually(lambda: [get(f"http://127.0.0.1:{port}/-/ready") for port in fleet.ports])
        fleet.look("at work")
        shown = connection.execute("SELECT application_name, query FROM pg_stat_activity").fetchall()
        fleet.places["pg_stat_activity"] = str(shown).encode()

        # An unexpected value: a timestamp that Python's datetime does not support.
        connection.execute(
            "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) VALUES ('x', now(), "
            "'infinity', '-infinity')"
        )
        fleet.look("with a row that cannot be read")
        connection.execute("DELETE FROM workers WHERE node_id = 'x'")

        connection.execute("ALTER TABLE workers RENAME TO elsewhere")
        fleet.processes["the worker"].says("no workers table")
        fleet.look("with no table")
        connection.execute("ALTER TABLE elsewhere RENAME TO workers")
        connection.execute("REVOKE ALL ON workers FROM amp")
        fleet.processes["the worker"].says("permission denied")
        fleet.look("with no privilege")
        connection.execute("GRANT ALL ON workers TO amp")
    relay.close()
    fleet.look("with no network")
    for process in fleet.processes.values():
        process.stop(30)
    places = fleet.places | fleet.logs() | {"PostgreSQL's log": server_log(server)}
    assert b"UPDATE workers" in places["PostgreSQL's log"]
    assert found(places) == []


def server_log(server: EmbeddedPostgres) -> bytes:
    return server.place.log.read_bytes()


@pytest.mark.parametrize("kind", urls(0))
def test_no_command_quotes_its_url(kind: str, server: EmbeddedPostgres, tmp_path: Path) -> None:
    relay = Relay(socket_of(server))
    url = urls(relay.port)[kind]
    listen = f"--web.listen-address=127.0.0.1:{free_port()}"
    places = {}
    # At the most verbose level.
    done = run("ampd", "migrate", "--timeout=2s", f"--metadata-db-url={url}", env=ENVIRONMENT | {"AMP_LOG": "debug"})
    assert done.returncode in {0, 1, 2}
    places["migrate"] = (done.stdout + done.stderr).encode()
    if kind not in {"here", "as a parameter", "away", "in the wrong place"}:
        for command in (["worker", "--node-id=w"], ["worker", "--node-id=w", "--", "env"], ["admin", listen]):
            done = run("ampd", *command, env=ENVIRONMENT | {"AMP_METADATA_DB_URL": url})
            assert done.returncode == 2
            places[" ".join(command)] = (done.stdout + done.stderr).encode()
    relay.close()
    assert found(places) == []


def inline(**texts: str) -> str:
    """A web configuration with these texts as inline blocks."""
    blocks = [f"  {key}: |\n" + "".join(f"    {line}\n" for line in text.splitlines()) for key, text in texts.items()]
    return "tls_server_config:\n" + "".join(blocks)


MISTAKES = {
    "a key where its file is to be named": inline(cert=TLS_CERTIFICATE, key_file=TLS_KEY),
    "a key in one line": f"tls_server_config:\n  cert_file: c.pem\n  key_file: {TLS_KEY.splitlines()[1]}\n",
    "both where a certificate's file is to be named": inline(cert_file=TLS_CERTIFICATE + TLS_KEY, key_file="k.pem"),
    "the key in place of the certificate": inline(cert=TLS_KEY, key=TLS_CERTIFICATE),
    "the key in place of the authorities": inline(
        cert=TLS_CERTIFICATE, key=TLS_KEY, client_ca=TLS_KEY, client_auth_type="RequireAndVerifyClientCert"
    ),
    "a key that is cut off": inline(cert=TLS_CERTIFICATE, key=TLS_KEY[: len(TLS_KEY) * 2 // 3]),
    "a key without a block": f"tls_server_config:\n  key: {TLS_KEY}",
    "a password that is an alias": f"basic_auth_users:\n  alice: *{USER_PASSWORD}\n",
    "a password that is a tag": f"basic_auth_users:\n  alice: !{USER_PASSWORD}!x y\n",
    "a password that is an anchor, twice": f"basic_auth_users: [&{USER_PASSWORD} a, &{USER_PASSWORD} b]\n",
    "a password without a hash": f"basic_auth_users:\n  alice: {USER_PASSWORD}\n",
    "a password in a list": f"basic_auth_users:\n  alice: [{USER_PASSWORD}]\n",
    "a password in quotes that do not end": f'basic_auth_users:\n  alice: "{USER_PASSWORD}\n',
    "a hash with something behind it": f"basic_auth_users:\n  alice: {USER_HASH}x\n",
    "a hash for a mapping": f"basic_auth_users: {USER_HASH}\n",
    "a token": f"{FILE_TOKEN}\n",
}
"""Web configuration files with common mistakes."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_mistake_in_a_web_configuration_is_quoted(mistake: str, tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text(MISTAKES[mistake])
    with pytest.raises(ConfigError) as refused:
        Policy(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert found({mistake: str(refused.value).encode()}) == []


def test_a_server_that_does_not_start_because_of_a_mistake_quotes_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text(MISTAKES["a key where its file is to be named"])
    env = ENVIRONMENT | {"AMP_METADATA_DB_URL": urls(1)["away"], "AMP_LOG": "debug"}
    listen = f"--web.listen-address=127.0.0.1:{free_port()}"
    done = run("ampd", "exporter", listen, "--web.config.file", str(file), env=env)
    assert (done.returncode, done.stderr.startswith(f"Error: {file}: ")) == (1, True)
    assert found({"the output": (done.stdout + done.stderr).encode()}) == []


def test_no_option_quotes_a_secret_that_belongs_into_a_file(tmp_path: Path) -> None:
    places = {}
    for url in urls(1).values():
        done = run("ampd", "migrate", env=ENVIRONMENT | {"AMP_METADATA_DB_URL_FILE": url})
        assert done.returncode == 2
        places[f"migrate with {url}"] = (done.stdout + done.stderr).encode()
    (tmp_path / "tokens").write_text(f"{FILE_TOKEN} \xfc\n{FILE_TOKEN[:8]}\n")
    for value in (AUTH_TOKEN, FILE_TOKEN, str(tmp_path / "tokens")):
        env = ENVIRONMENT | {"AMP_METADATA_DB_URL": urls(1)["away"]}
        listen = f"--web.listen-address=127.0.0.1:{free_port()}"
        done = run("ampd", "admin", listen, "--auth-token-file", value, env=env)
        assert (done.returncode, "cannot listen" in done.stderr) == (1, False)
        places[f"admin with {value}"] = (done.stdout + done.stderr).encode()
    assert found(places) == []


def test_a_server_that_reloads_mistakes_quotes_no_secret(processes: Processes, tmp_path: Path) -> None:
    """Mistakes in each part that has a secret: files, log, command lines and the certificate of the server."""
    file = tmp_path / "web.yml"
    good = inline(cert=TLS_CERTIFICATE, key=TLS_KEY) + f"basic_auth_users:\n  alice: {USER_HASH}\n"
    file.write_text(good)
    port = free_port()
    listen, env = f"--web.listen-address=127.0.0.1:{port}", ENVIRONMENT | {"AMP_LOG": "debug"}
    server = processes.ampd("exporter", listen, "--web.config.file", str(file), database=urls(1)["away"], env=env)
    server.says("listens on https://")
    for number, text in enumerate(MISTAKES.values(), 1):
        file.write_text(text)
        server.says("configuration not reloaded", times=number)
    pids = [server.pid, *(child.pid for child in server.descendants())]
    shown = command_lines(*pids).encode()
    server.stop(30)
    assert found({"the output": server.output.encode(), "the command lines": shown}) == []


def test_ampctl_shows_no_token() -> None:
    places = {}
    for url in ("http://127.0.0.1:1", "http://192.0.2.1:1", f"http://amp:{quote(AUTH_TOKEN, safe='')}@localhost:1"):
        for command in (["worker", "list"], ["worker", "inspect", "w"], ["worker", "list", "--json"]):
            if "192.0.2.1" not in url or command == ["worker", "list"]:
                done = run("ampctl", "--admin-url", url, *command, env=ENVIRONMENT)
                assert done.returncode in {1, 2}
                places[f"ampctl {' '.join(command)}"] = (done.stdout + done.stderr).encode()
    assert found(places) == []


def test_solo_shows_nothing_of_its_environment(processes: Processes, tmp_path: Path) -> None:
    listen = (f"--admin.listen-address=127.0.0.1:{free_port()}", f"--exporter.listen-address=127.0.0.1:{free_port()}")
    env = ENVIRONMENT | {"AMP_LOG": "debug", "AMP_METADATA_DB_URL": urls(1)["here"]}
    solo = processes.ampd("solo", "--data-dir", str(tmp_path / "data"), *listen, env=env)
    solo.says("is running", 60)
    pids = [solo.pid, *(child.pid for child in solo.descendants())]
    shown = command_lines(*pids).encode()
    assert solo.stop(30) == 0
    assert found({"the command lines of solo": shown, "the output of solo": solo.output.encode()}) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_leak_is_detected(name: str) -> None:
    secret = PLANTED[name]
    leaks = {
        "as it is": f"x {secret} x",
        "in a URL": f"postgresql://amp:{quote(secret, safe='')}@h/d",
        "in Base64": f"Basic {base64.b64encode(secret.encode()).decode()}",
        "in a repr": ascii(f"{secret}"),
    }
    assert found({place: text.encode() for place, text in leaks.items()}) == [
        f"{name} is in {place}" for place in leaks
    ]
    assert not any(form in b"an innocent line" for form in forms(secret))
