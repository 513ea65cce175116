"""Which credentials are accepted, and the responses without them."""

import asyncio
import base64
import json
import logging
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import bcrypt
import pytest
from flask import Flask, request
from werkzeug.exceptions import TooManyRequests
from werkzeug.test import Client

from amp_workers.web import ConfigError, Policy, health
from amp_workers.web.auth.authenticator import Authenticator, Peer
from amp_workers.web.auth.passwords import Passwords, verify
from amp_workers.web.auth.tokens import admits, digests, read_tokens
from amp_workers.web.bulkhead import QueueFull
from amp_workers.web.config.web_config import WebConfig
from tests.processes import Processes, command_lines, eventually, free_port, tool
from tests.web import wsgi
from tests.web.conftest import Authority
from tests.web.servers import CLIENTS, HUNTER2, TLS, Served, reasons, shown_certificate, write

TOKEN = "a-token-of-an-operator"
OTHER = "another-of-somebody-else"
OPTIONAL = CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
USERS = f"basic_auth_users:\n  alice: {HUNTER2}\n"


def client(policy: Policy, subject: str | None = None, accepted_under: WebConfig | None = None) -> Client:
    """Return a client of an application that responds with the name of the request's sender."""
    app = Flask("test")
    app.register_blueprint(health(lambda: None))

    @app.get("/who")
    def who() -> str:
        return repr(request.environ.get("REMOTE_USER"))

    return wsgi.client(app, policy, subject, accepted_under)


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def both(tmp_path: Path) -> Client:
    (tmp_path / "tokens").write_text(f"# of the operators\n\n{TOKEN}\n  {OTHER}  \n")
    return client(Policy(Path(write(tmp_path / "web.yml", USERS)), tmp_path / "tokens"))


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        (basic("alice", "hunter2"), "'alice'"),
        (bearer(TOKEN), "'token'"),
        (bearer(OTHER), "'token'"),
        ({"Authorization": f"bearer   {TOKEN}"}, "'token'"),
        (basic("token", TOKEN), "'token'"),
        (basic("token", OTHER), "'token'"),
    ],
)
def test_each_kind_of_credential_is_accepted(both: Client, headers: dict[str, str], who: str) -> None:
    for _ in range(2):
        answer = both.get("/who", headers=headers)
        assert (answer.status_code, answer.text) == (200, who)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("alice", "hunter3"),
        basic("alice", ""),
        basic("alice", "hunter2" * 40),
        basic("alice", "hunter\0"),
        basic("bob", "hunter2"),
        basic("alice", TOKEN),
        basic("token", "hunter2"),
        basic("Token", TOKEN),
        basic("", ""),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer(""),
        bearer("# of the operators"),
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Basic ////"},
        {"Authorization": "Basic"},
        {"Authorization": ""},
        {"Authorization": "Digest username=alice"},
        {"Authorization": bearer(TOKEN)["Authorization"] + ",Bearer x"},
        {"Remote-User": "alice", "X-Remote-User": "alice"},
    ],
)
def test_other_credentials_are_refused(both: Client, headers: dict[str, str]) -> None:
    for path in ("/who", "/nothing/there"):
        answer = both.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers.getlist("WWW-Authenticate") == ['Bearer realm="Amp workers"', 'Basic realm="Amp workers"']
        assert ("the credentials of the request are not valid" in answer.text) == bool(headers.get("Authorization"))
        assert TOKEN not in answer.text
    for path in ("/-/healthy", "/-/ready"):
        assert both.get(path, headers=headers).status_code == 200


def test_a_browser_is_asked_for_a_password_where_there_are_tokens_alone() -> None:
    api = client(Policy(token=TOKEN))
    refused = api.get("/who")
    assert refused.headers.getlist("WWW-Authenticate") == ['Bearer realm="Amp workers"', 'Basic realm="Amp workers"']
    assert "a token is required" in refused.text
    assert api.get("/who", headers=basic("token", TOKEN)).text == "'token'"
    assert api.get("/who", headers=basic("token", OTHER)).status_code == 401


def test_a_user_may_be_named_token(tmp_path: Path) -> None:
    users = Path(write(tmp_path / "web.yml", USERS.replace("alice", "token")))
    assert client(Policy(users)).get("/who", headers=basic("token", "hunter2")).text == "'token'"
    assert client(Policy(users, token=TOKEN)).get("/who", headers=basic("token", "hunter2")).text == "'token'"


def test_without_authentication_no_client_has_a_name() -> None:
    assert client(Policy()).get("/who", headers=basic("alice", "hunter2")).text == "None"


def test_a_certificate_names_its_client(tmp_path: Path, authority: Authority) -> None:
    authority.server()
    certificates = Policy(Path(write(tmp_path / "web.yml", CLIENTS)))
    assert client(certificates, "CN=ann").get("/who").text == "'CN=ann'"
    # If users are configured as well, both are required, as in exporter-toolkit.
    both = client(Policy(Path(write(tmp_path / "web.yml", CLIENTS + USERS))), "CN=ann")
    assert both.get("/who").status_code == 401
    assert both.get("/who", headers=basic("alice", "hunter2")).text == "'alice'"


def test_a_connection_without_a_certificate_still_requires_a_user(tmp_path: Path, authority: Authority) -> None:
    """The connection was accepted before certificates were required, and the users may have been removed since."""
    authority.server()
    policy = Policy(Path(write(tmp_path / "web.yml", TLS + USERS)))
    before = client(policy, accepted_under=policy.config)
    write(tmp_path / "web.yml", CLIENTS)
    policy.reload()
    assert policy.config.requires_certificates
    assert before.get("/who").status_code == 401
    assert before.get("/who", headers=basic("alice", "hunter2")).text == "'alice'"
    assert client(policy, "CN=ann").get("/who").text == "'CN=ann'"


def test_new_users_and_headers_apply_to_existing_connections(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    policy = Policy(Path(write(file, USERS)))
    api = client(policy)
    assert api.get("/who", headers=basic("alice", "hunter2")).text == "'alice'"
    deny = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n"
    write(file, USERS.replace("alice", "bob") + deny)
    policy.reload()
    assert api.get("/who", headers=basic("alice", "hunter2")).status_code == 401
    answer = api.get("/who", headers=basic("bob", "hunter2"))
    assert (answer.text, answer.headers["X-Frame-Options"]) == ("'bob'", "deny")


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        (TLS + USERS, "", "TLS and all authentication"),
        (TLS + USERS, TLS, "all authentication"),
        (TLS + USERS, USERS, "TLS"),
        (USERS, "", "all authentication"),
        (CLIENTS, TLS, "all authentication"),
        (CLIENTS, OPTIONAL, "all authentication"),
        (TLS, "", "TLS"),
    ],
)
def test_a_change_of_a_file_opens_no_server_to_others(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture, before: str, now: str, lost: str
) -> None:
    authority.server()
    file = tmp_path / "web.yml"
    policy = Policy(Path(write(file, before)))
    policy.exposed = True
    kept = policy.config
    write(file, now)
    policy.reload()
    assert policy.config is kept
    assert not policy.last_reload_successful
    (reason,) = reasons(caplog)
    assert reason.startswith(f"{file}: the change removes {lost} from a server that other machines can reach: restart")
    policy.exposed = False
    policy.reload()
    assert policy.config is not kept
    assert policy.last_reload_successful


@pytest.mark.parametrize("exposed", [True, False])
def test_a_weaker_protection_is_logged(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture, exposed: bool
) -> None:
    caplog.set_level(logging.WARNING, logger="amp_workers.web")  # a reload itself is logged as information
    authority.server()
    file = tmp_path / "web.yml"
    policy = Policy(Path(write(file, CLIENTS + "  client_allowed_sans: [a]\n  min_version: TLS13\n" + USERS)))
    policy.exposed = exposed
    write(file, CLIENTS if exposed else TLS)
    policy.reload()
    names = ["users and their passwords", "the requirement of client certificates"][: 1 if exposed else 2]
    names += ["client_allowed_sans", "min_version TLS13"]
    assert caplog.messages == [f"{file}: {name} no longer protects this server" for name in names]


def test_a_reload_that_fails_is_a_metric(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    policy = Policy(token_file=Path(write(file, TOKEN)))
    first = policy.last_reload_success
    write(file, "short")
    policy.reload()
    assert (policy.last_reload_successful, policy.last_reload_success) == (False, first)
    assert admits(policy.tokens, TOKEN)
    write(file, OTHER)
    policy.reload()
    assert policy.last_reload_successful
    assert policy.last_reload_success > first
    assert admits(policy.tokens, OTHER)


def test_tokens_are_authentication_too(tmp_path: Path) -> None:
    policy = Policy(Path(write(tmp_path / "web.yml", USERS)), token=TOKEN)
    policy.exposed = True
    write(tmp_path / "web.yml", "")
    policy.reload()
    assert not policy.config.users


def attempt(passwords: Passwords, users: dict[str, bytes], name: str, password: str, peer: str = "") -> bool:
    return asyncio.run(passwords.verify(users, name, password, peer))


def test_a_verified_password_is_not_hashed_again() -> None:
    slow = {"alice": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(10))}
    passwords = Passwords()
    assert attempt(passwords, slow, "alice", "hunter2")

    async def many() -> list[bool]:
        # More concurrent attempts than may wait for a verification: a remembered password needs none.
        return await asyncio.gather(*(passwords.verify(slow, "alice", "hunter2", "") for _ in range(500)))

    assert all(asyncio.run(many()))
    # A changed hash means a changed password, even if the old password is remembered.
    assert not attempt(passwords, {"alice": bcrypt.hashpw(b"other", bcrypt.gensalt(4))}, "alice", "hunter2")


def test_a_remembered_password_is_valid_for_its_user_alone() -> None:
    passwords = Passwords()
    users = {"alice": HUNTER2.encode()}
    assert attempt(passwords, users, "alice", "hunter2")
    assert not attempt(passwords, users, f"alice{HUNTER2}hunter", "2")


def test_a_long_password_is_truncated_as_bcrypt_does() -> None:
    users = {"alice": bcrypt.hashpw(b"x" * 71 + b"y", bcrypt.gensalt(4))}
    assert attempt(Passwords(), users, "alice", "x" * 71 + "yz")
    assert not attempt(Passwords(), users, "alice", "x" * 72)


def test_a_hash_that_bcrypt_refuses_authenticates_no_client(tmp_path: Path) -> None:
    odd = USERS.replace(HUNTER2, HUNTER2[:28] + "z" + HUNTER2[29:])
    policy = Policy(Path(write(tmp_path / "web.yml", odd)))
    assert client(policy).get("/who", headers=basic("alice", "hunter2")).status_code == 401


def test_the_queue_of_attempts_is_bounded() -> None:
    async def flood() -> list[object]:
        passwords, users = Passwords(), {"alice": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4))}
        wrong = (passwords.verify(users, "alice", f"wrong {n}", "attacker") for n in range(100))
        return list(await asyncio.gather(*wrong, return_exceptions=True))

    verdicts = asyncio.run(flood())
    assert verdicts.count(False) == 65, "one is verified, 64 wait"
    assert sum(isinstance(verdict, QueueFull) for verdict in verdicts) == 35


@pytest.mark.parametrize("peer", ["somebody", "attacker"])
def test_wrong_passwords_do_not_lock_the_right_one_out(peer: str) -> None:
    """Wrong passwords may come from another address, in any number, or from the same address, such as a proxy's."""
    users = {"alice": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(8))}

    async def attacked() -> bool:
        passwords = Passwords()

        async def attack(number: int) -> None:
            for _ in range(1000):
                with suppress(QueueFull):
                    assert not await passwords.verify(users, "alice", f"wrong {number}", "attacker")

        attackers = [asyncio.ensure_future(attack(n)) for n in range(100 if peer == "somebody" else 16)]
        await asyncio.sleep(0.2)
        try:
            return await passwords.verify(users, "alice", "hunter2", peer)
        finally:
            for each in attackers:
                each.cancel()

    assert asyncio.run(attacked())


def test_a_client_that_has_to_retry_gets_429(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(8)).decode()
    policy = Policy(Path(write(tmp_path / "web.yml", f"basic_auth_users:\n  alice: {hashed}\n  bob: {hashed}\n")))

    async def refused() -> None:
        authenticator = Authenticator(policy)
        peers = [Peer(f"192.0.2.{n}", None, policy.config) for n in (1, 2)]
        # From a proxy, which has one address for all its clients.
        peers.append(Peer("192.0.2.1", "CN=ann", policy.config))
        wrong = [
            asyncio.ensure_future(authenticator.authenticate(peers[0], basic("alice", f"x{n}")["Authorization"]))
            for n in range(70)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests) as raised:
            await authenticator.authenticate(peers[0], basic("alice", "hunter2")["Authorization"])
        assert raised.value.retry_after == 1
        # A client with another address or certificate is served before those that wait.
        for peer, name in zip(peers[1:], ("alice", "bob"), strict=True):
            assert await authenticator.authenticate(peer, basic(name, "hunter2")["Authorization"]) == name
        assert not all(each.done() for each in wrong)
        await asyncio.gather(*wrong, return_exceptions=True)

    asyncio.run(refused())


@pytest.mark.slow
def test_every_wrong_attempt_takes_the_same_time() -> None:
    users = {
        "cheap": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)),
        "middle": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(8)),
        "dear": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(11)),
    }

    def seconds(name: str) -> float:
        """Return the processor time of this thread in seconds."""
        began = time.thread_time()
        assert not verify(b"wrong", users.get(name), 11)
        return time.thread_time() - began

    # The minimum is the real cost: other load of the machine adds to a measurement, for one name or the other.
    found = dict.fromkeys((*users, "nobody"), float("inf"))
    for measured in range(1, 31):
        found = {name: min(least, seconds(name)) for name, least in found.items()}
        if measured >= 3 and max(found.values()) < 1.3 * min(found.values()):
            return
    pytest.fail(repr(found))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file contains no token"),
        ("# nothing\n\n", "the file contains no token"),
        (f"{TOKEN}\nshort\n", r"line 2: the token is shorter than 16 characters"),
        ("with a space in the middle\n", r"line 1: a token consists of printable ASCII characters without spaces"),
        ("ümlaut-ümlaut-ümlaut\n", "line 1: a token consists of printable ASCII"),
        ("operator:0123456789abcdef\n", "line 1: a token cannot contain a colon"),
        ("0123456789abcdef\x07\n", "line 1: a token consists of printable ASCII"),
        (f"\ufeff{TOKEN}", "line 1: starts with a UTF-8 byte order mark"),
        ("0123456789abcde\n", "line 1: the token is shorter than 16 characters"),
    ],
)
def test_tokens_that_cannot_be_used_are_named_and_not_shown(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        read_tokens(file)
    assert str(raised.value).startswith(str(file))
    assert not any(line in str(raised.value) for line in text.split() if len(line) > 5 and line != "nothing")


def test_a_file_without_tokens_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(f"{TOKEN}\n\xff\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=f"^{tmp_path}/tokens: not UTF-8 text$"):
        read_tokens(tmp_path / "tokens")
    with pytest.raises(ConfigError, match=f"^{tmp_path}: Is a directory$"):
        read_tokens(tmp_path)


def test_a_token_of_16_characters_is_long_enough(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("0123456789abcdef\n")
    assert read_tokens(tmp_path / "tokens") == ["0123456789abcdef"]


def test_a_token_in_the_environment_has_the_same_rules() -> None:
    with pytest.raises(ConfigError, match="AMP_AUTH_TOKEN: the token is shorter than 16"):
        Policy(token="short")
    with pytest.raises(ConfigError, match="AMP_AUTH_TOKEN: the token is shorter than 16"):
        Policy(token="")
    with pytest.raises(ConfigError, match=r"AMP_AUTH_TOKEN: starts with a UTF-8 byte order mark \(BOM\)"):
        Policy(token=f"\ufeff{TOKEN}")
    assert admits(Policy(token=f"{TOKEN}\r\n").tokens, TOKEN)


def test_every_token_is_compared() -> None:
    known = digests([TOKEN, OTHER])
    assert admits(known, TOKEN)
    assert admits(known, OTHER)
    assert not admits(known, "")
    assert not admits(digests([]), "")


@pytest.fixture
def admin(processes: Processes, tmp_path: Path) -> Served:
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    web_config = write(tmp_path / "web.yml", USERS + "http_server_config:\n  headers:\n    X-Frame-Options: deny\n")
    options = ("--auth-token-file", str(tmp_path / "tokens"), "--web.config.file", web_config)
    # No request must be able to use these values of the environment.
    environment = {"AMP_AUTH_TOKEN": OTHER, "REMOTE_USER": "root", "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
    return Served(processes, "admin", *options, **environment)


@pytest.mark.slow
def test_the_api_refuses_in_its_own_error_format_and_reloads_its_files(admin: Served, tmp_path: Path) -> None:
    refused = admin.ask("/workers")
    assert refused.status == 401
    assert json.loads(refused.body) == {
        "error_code": "UNAUTHORIZED",
        "error_message": "a token or a user and a password is required",
    }
    assert 'www-authenticate: bearer realm="amp workers"' in refused.headers
    assert 'www-authenticate: basic realm="amp workers"' in refused.headers
    assert "x-frame-options: deny" in refused.headers
    # The token is valid, and there is no database.
    assert admin.ask("/workers", "-H", f"Authorization: Bearer {TOKEN}").status == 503
    assert admin.ask("/workers", "-H", f"Authorization: Bearer {OTHER}").status == 503
    assert admin.ask("/workers", "-u", "alice:hunter2").status == 503
    assert admin.ask("/workers", "-u", "alice:hunter3").status == 401
    assert admin.ask("/workers", "-X", "DELETE").status == 401
    assert admin.ask("/metrics").status == 401
    assert admin.ask("/-/healthy").status == 200
    unready = admin.ask("/-/ready")
    assert unready.status == 503
    assert json.loads(unready.body)["error_message"] == "not ready: see the log"

    shown = command_lines(admin.process.pid, admin.serving())
    assert TOKEN not in shown + admin.process.output
    assert OTHER not in shown + admin.process.output

    # Rotation: both tokens are valid for a while, then only the new one.
    new = "the-token-of-next-month"
    write(tmp_path / "tokens", f"{TOKEN}\n{new}\n")
    eventually(lambda: admin.ask("/workers", "-H", f"Authorization: Bearer {new}").status == 503)
    assert admin.ask("/workers", "-H", f"Authorization: Bearer {TOKEN}").status == 503
    write(tmp_path / "tokens", f"{new}\n")
    eventually(lambda: admin.ask("/workers", "-H", f"Authorization: Bearer {TOKEN}").status == 401)
    write(tmp_path / "tokens", "short\n")
    admin.process.says("line 1: the token is shorter than 16 characters")
    metrics = admin.ask("/metrics", "-H", f"Authorization: Bearer {new}").body
    assert "\namp_web_config_last_reload_successful 0.0\n" in metrics
    assert admin.ask("/workers", "-H", f"Authorization: Bearer {new}").status == 503
    write(tmp_path / "web.yml", "")
    eventually(lambda: admin.ask("/workers", "-u", "alice:hunter2").status == 401)
    assert not admin.process.descendants()


def test_a_user_of_the_environment_is_not_authenticated(processes: Processes) -> None:
    refused = Served(processes, "admin", REMOTE_USER="root").ask("/workers/w", "-X", "DELETE")
    assert (refused.status, json.loads(refused.body)["error_code"]) == (403, "AUTHENTICATION_REQUIRED")


def test_a_command_with_a_bad_token_does_not_start(processes: Processes, tmp_path: Path) -> None:
    process = processes.ampd("admin", "--auth-token-file", TOKEN, database="postgresql://h/d")
    assert process.wait() == 1
    assert process.output == "Error: --auth-token-file: No such file or directory\n"


@pytest.mark.parametrize(
    ("tls", "users", "warned"),
    [
        (False, False, "with neither TLS nor authentication"),
        (False, True, "receives passwords and tokens unencrypted over the network"),
        (True, False, "is open to every client that can reach this machine: configure users"),
        (True, True, None),
    ],
)
def test_a_server_that_is_open_to_the_network_logs_a_warning(
    processes: Processes, tmp_path: Path, authority: Authority, tls: bool, users: bool, warned: str | None
) -> None:
    authority.server()
    text = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n" if tls else ""
    file = write(tmp_path / "web.yml", text + (USERS if users else ""))
    listen = ("--web.listen-address", f":{free_port()}")
    process = processes.ampd("exporter", *listen, "--web.config.file", file, database="postgresql://h/d")
    process.says("listens on")
    warnings = [line for line in process.output.splitlines() if "level=warn" in line]
    assert len(warnings) == (warned is not None)
    assert warned is None or warned in warnings[0]


@pytest.mark.slow
def test_a_server_on_the_network_keeps_its_protection(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    authority.server()
    file, port = write(tmp_path / "web.yml", TLS + USERS), free_port()
    process = processes.ampd(
        "exporter", f"--web.listen-address=:{port}", "--web.config.file", file, database="postgresql://h/d"
    )
    process.says("listens on https://")
    (tmp_path / "web.yml").write_text("")
    process.says("restart it if that is intended")
    assert shown_certificate(port)
    curl = [tool("curl"), "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"https://localhost:{port}/metrics"]
    assert subprocess.run(curl, capture_output=True, text=True, check=True).stdout == "401"
    write(tmp_path / "web.yml", TLS + USERS.replace("alice", "bob"))
    process.says("configuration reloaded")


def test_a_token_file_that_all_accounts_can_read_is_a_warning(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    (tmp_path / "tokens").chmod(0o644)
    listen = ("--web.listen-address", f"127.0.0.1:{free_port()}")
    options = ("--auth-token-file", str(tmp_path / "tokens"))
    process = processes.ampd("admin", *listen, *options, database="postgresql://h/d")
    process.says("can be read by every account of this machine: chmod 600")
    (tmp_path / "tokens").write_text(f"{OTHER}\n")
    process.says("can be read by every account of this machine: chmod 600", times=2)


def test_a_key_file_that_all_accounts_can_read_is_a_warning(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = [("cert", "server.pem"), ("key", "server.key")]
    authority.server()
    lines = [f"  {key}: |\n    " + (tmp_path / file).read_text().replace("\n", "\n    ") for key, file in blocks]
    file = Path(write(tmp_path / "web.yml", "tls_server_config:\n" + "\n".join(lines)))
    policy = Policy(file)
    # The last mode but one is that of a systemd credential or a Kubernetes secret.
    for mode, warnings in ((0o600, 0), (0o640, 0), (0o644, 1)):
        file.chmod(mode)
        policy.warn_of_weaknesses("ampd admin")
        assert len(caplog.messages) == warnings
    assert caplog.messages == [f"{file} can be read by every account of this machine: chmod 600"]
    file.unlink()
    policy.warn_of_weaknesses("ampd admin")
    assert len(caplog.messages) == 1
