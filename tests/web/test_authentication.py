"""Who gets in with what, and what the others are told."""

import base64
import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from amp_workers.web import Security, SecurityError, health
from amp_workers.web.certificates import Tls
from amp_workers.web.config_file import WebConfig
from amp_workers.web.guard import guard
from amp_workers.web.passwords import AT_IT, Passwords, TooManyAttempts
from amp_workers.web.tokens import TokenError, Tokens, read_tokens
from amp_workers.web.turns import TooManyWaiting, Turns
from tests.processes import Processes, command_lines, eventually, free_port, tool
from tests.web.conftest import Authority
from tests.web.servers import CLIENTS, HUNTER2, TLS, Served, shown_certificate, write

TOKEN = "a-token-of-an-operator"
OTHER = "another-of-somebody-else"
USERS = f"basic_auth_users:\n  alice: {HUNTER2}\n"


VERIFIED = WebConfig(tls=Tls(b"", b"", b"an authority", "tls1.2"))
"""What a process serves with that lets nobody through who shows no certificate."""


def client(security: Security, served: WebConfig | None = None) -> FlaskClient:
    """A client of an application that tells who asked."""
    app = Flask("test")
    app.register_blueprint(health(lambda: None))

    @app.get("/who")
    def who() -> str:
        return repr(request.environ.get("REMOTE_USER"))

    guard(app, security, served or security.config)
    return app.test_client()


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def both(tmp_path: Path) -> FlaskClient:
    (tmp_path / "tokens").write_text(f"# of the operators\n\n{TOKEN}\n  {OTHER}  \n")
    return client(Security(Path(write(tmp_path / "web.yml", USERS)), tmp_path / "tokens"))


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        (basic("alice", "hunter2"), "'alice'"),
        (bearer(TOKEN), "'token'"),
        (bearer(OTHER), "'token'"),
        ({"Authorization": f"bearer   {TOKEN}"}, "'token'"),
    ],
)
def test_either_credential_admits(both: FlaskClient, headers: dict[str, str], who: str) -> None:
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
def test_nobody_else_gets_in(both: FlaskClient, headers: dict[str, str]) -> None:
    for path in ("/who", "/nothing/there"):
        answer = both.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers.getlist("WWW-Authenticate") == ['Bearer realm="Amp workers"', 'Basic realm="Amp workers"']
        assert ("what came is none that is known" in answer.text) == ("Authorization" in headers)
        assert TOKEN not in answer.text
    for path in ("/-/healthy", "/-/ready"):
        assert both.get(path, headers=headers).status_code == 200


def test_without_credentials_to_ask_for_nobody_has_a_name() -> None:
    assert client(Security()).get("/who", headers=basic("alice", "hunter2")).text == "None"


def test_a_verified_certificate_is_a_name(tmp_path: Path) -> None:
    assert client(Security(), VERIFIED).get("/who").text == "'client certificate'"
    # Where there are users as well, both are needed, as in exporter-toolkit.
    security = Security(Path(write(tmp_path / "web.yml", USERS)))
    users = client(security, replace(VERIFIED, users=security.config.users))
    assert users.get("/who").status_code == 401
    assert users.get("/who", headers=basic("alice", "hunter2")).text == "'alice'"


def test_users_stay_until_the_process_that_demands_certificates_serves(tmp_path: Path, authority: Authority) -> None:
    authority.server()
    security = Security(Path(write(tmp_path / "web.yml", TLS + USERS)))
    before = client(security)
    write(tmp_path / "web.yml", CLIENTS)
    time.sleep(1.1)  # until it looks again
    assert before.get("/who").status_code == 401
    assert before.get("/who", headers=basic("alice", "hunter2")).text == "'alice'"
    assert security.config.demands_certificates
    assert client(security).get("/who").text == "'client certificate'"


def test_a_process_that_is_started_again_has_the_users_of_now(tmp_path: Path) -> None:
    security = Security(Path(write(tmp_path / "web.yml", USERS)))
    served = security.config
    write(tmp_path / "web.yml", USERS.replace("alice", "bob"))
    assert security.look(tell=False)
    again = client(security, served)
    assert again.get("/who", headers=basic("alice", "hunter2")).status_code == 401
    assert again.get("/who", headers=basic("bob", "hunter2")).text == "'bob'"


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        (TLS + USERS, "", "TLS and all authentication"),
        (TLS + USERS, TLS, "all authentication"),
        (TLS + USERS, USERS, "TLS"),
        (USERS, "", "all authentication"),
        (CLIENTS, TLS, "all authentication"),
        (TLS, "", "TLS"),
    ],
)
def test_a_change_of_a_file_opens_no_server_to_others(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture, before: str, now: str, lost: str
) -> None:
    authority.server()
    file = tmp_path / "web.yml"
    security = Security(Path(write(file, before)))
    security.exposed = True
    kept = security.config
    write(file, now)
    assert not security.look(tell=True)
    assert security.config == kept
    (told,) = caplog.messages
    assert told.startswith(f"{file}: it takes {lost} from a server that others than this machine reach: restart it if")
    security.exposed = False
    assert security.look(tell=True)


def test_what_protects_less_than_before_is_told(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    authority.server()
    file = tmp_path / "web.yml"
    security = Security(Path(write(file, CLIENTS + "  client_allowed_sans: [a]\n  min_version: TLS13\n" + USERS)))
    security.exposed = True
    write(file, CLIENTS)
    assert security.look(tell=True)
    names = ("users and their passwords", "client_allowed_sans", "min_version TLS13")
    told = [f"{file}: {name} protected this server before, and does not any more" for name in names]
    assert caplog.messages == told


def test_what_a_file_takes_from_a_server_of_this_machine_is_told(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    authority.server()
    file = tmp_path / "web.yml"
    security = Security(Path(write(file, CLIENTS)))
    write(file, "")
    assert security.look(tell=True)
    names = ("TLS", "clients' certificates")
    told = [f"{file}: {name} protected this server before, and does not any more" for name in names]
    assert caplog.messages == told


def test_other_tokens_are_a_change(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    security = Security(token_file=Path(write(file, TOKEN)))
    write(file, OTHER)
    assert security.look(tell=True)
    assert security.tokens.admit(OTHER)


def test_tokens_are_authentication_too(tmp_path: Path) -> None:
    security = Security(Path(write(tmp_path / "web.yml", USERS)), token=TOKEN)
    security.exposed = True
    write(tmp_path / "web.yml", "")
    assert security.look(tell=True)


def test_a_password_that_was_right_is_not_computed_again() -> None:
    slow = {"alice": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(10))}
    passwords = Passwords()
    assert passwords.admit(slow, "alice", "hunter2")
    # Everybody at once, with the places for computing all but taken: whoever is known does not need one.
    with ThreadPoolExecutor(32) as many:
        assert all(many.map(lambda _: passwords.admit(slow, "alice", "hunter2"), range(500)))
    # Another hash is another password, even if the old one is remembered.
    assert not passwords.admit({"alice": bcrypt.hashpw(b"other", bcrypt.gensalt(4))}, "alice", "hunter2")


def test_what_is_remembered_is_of_one_user_and_one_password() -> None:
    passwords = Passwords()
    users = {"alice": HUNTER2.encode()}
    assert passwords.admit(users, "alice", "hunter2")
    assert not passwords.admit(users, f"alice{HUNTER2}hunter", "2")


def test_a_long_password_is_as_good_as_what_bcrypt_makes_of_it() -> None:
    users = {"alice": bcrypt.hashpw(b"x" * 71 + b"y", bcrypt.gensalt(4))}
    assert Passwords().admit(users, "alice", "x" * 71 + "yz")
    assert not Passwords().admit(users, "alice", "x" * 72)


def test_a_hash_that_bcrypt_does_not_take_admits_nobody(tmp_path: Path) -> None:
    odd = USERS.replace(HUNTER2, HUNTER2[:28] + "z" + HUNTER2[29:])
    security = Security(Path(write(tmp_path / "web.yml", odd)))
    assert client(security).get("/who", headers=basic("alice", "hunter2")).status_code == 401


def test_many_wrong_passwords_do_not_take_all_threads() -> None:
    users = {"alice": HUNTER2.encode()}
    passwords = Passwords()
    passwords._turns._seconds = 60.0
    refused = threading.Semaphore(0)

    def attempt(number: int) -> bool | None:
        try:
            return passwords.admit(users, "alice" if number % 2 else "nobody", f"wrong {number}")
        except TooManyAttempts:
            refused.release()
            return None

    # Nobody's is computed until all have come.
    with ThreadPoolExecutor(64) as many, passwords._turns.turn("somebody"):
        attempts = [many.submit(attempt, number) for number in range(64)]
        for _ in range(48):
            assert refused.acquire(timeout=30)
        assert waiting(passwords._turns) == AT_IT - 1
    verdicts = [each.result() for each in attempts]
    assert (verdicts.count(None), verdicts.count(False)) == (48, 16)


@pytest.mark.parametrize(("attackers", "peer"), [(16, "attacker"), (100, "somebody")])
def test_wrong_passwords_do_not_lock_the_right_one_out(attackers: int, peer: str) -> None:
    """Neither of a peer that is everybody's (a proxy's, say), nor, however many attack, of one's own."""
    slow = {"alice": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(8))}
    passwords = Passwords()
    stop = threading.Event()

    def attack(number: int) -> None:
        while not stop.is_set():
            with suppress(TooManyAttempts):
                assert not passwords.admit(slow, "alice", f"wrong {number}", "attacker")
            time.sleep(0.001)

    with ThreadPoolExecutor(attackers) as many:
        attacks = [many.submit(attack, number) for number in range(attackers)]
        try:
            time.sleep(0.5)
            assert passwords.admit(slow, "alice", "hunter2", peer)
        finally:
            stop.set()
        for each in attacks:
            each.result()


def test_addresses_take_turns_and_who_has_to_come_again_is_told_so(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(8)).decode()
    api = client(Security(Path(write(tmp_path / "web.yml", f"basic_auth_users:\n  alice: {hashed}\n"))))
    stop = threading.Event()
    refused = threading.Event()

    def ask(password: str, address: str) -> TestResponse:
        # Flask's client is of one thread.
        one = api.application.test_client()
        return one.get("/who", headers=basic("alice", password), environ_base={"REMOTE_ADDR": address})

    def attack(number: int) -> None:
        while not stop.is_set():
            answer = ask(f"wrong {number}", "192.0.2.1")
            if answer.status_code == 429:
                assert answer.headers["Retry-After"] == "1"
                refused.set()
            else:
                assert answer.status_code == 401

    with ThreadPoolExecutor(60) as many:
        attacks = [many.submit(attack, number) for number in range(60)]
        try:
            assert refused.wait(20)
            assert [ask("hunter2", f"192.0.2.{n}").status_code for n in (2, 3, 4)] == [200] * 3
        finally:
            stop.set()
        for each in attacks:
            each.result()


def waiting(turns: Turns) -> int:
    return sum(map(len, turns._queues.values()))


def test_turns_go_round_and_who_has_most_waiting_makes_room() -> None:
    turns = Turns(3, 20)
    had: list[str] = []

    def take(peer: str, name: str) -> None:
        try:
            with turns.turn(peer):
                had.append(name)
        except TooManyWaiting:
            had.append(f"not {name}")

    def queue(peer: str, name: str, waiting_then: int) -> None:
        many.submit(take, peer, name)
        eventually(lambda: waiting(turns) == waiting_then)

    with ThreadPoolExecutor(8) as many, turns.turn("first"):
        for number in range(3):
            queue("a", f"a{number}", number + 1)
        many.submit(take, "b", "b0")
        eventually(lambda: had == ["not a2"])
        many.submit(take, "b", "b1")
        eventually(lambda: had == ["not a2", "not b1"])
        many.submit(take, "a", "a3")
        eventually(lambda: had == ["not a2", "not b1", "not a3"])
    assert had[3:] == ["a0", "b0", "a1"]


def test_a_turn_ends_whatever_it_raises() -> None:
    turns = Turns(1, 0.1)
    with pytest.raises(LookupError), turns.turn("a"):
        raise LookupError
    with turns.turn("a"):
        pass


def test_who_waits_too_long_is_told() -> None:
    turns = Turns(2, 0.1)
    with turns.turn("a"):
        for peer in ("a", "b"):
            with pytest.raises(TooManyWaiting), turns.turn(peer):
                pass
    with turns.turn("b"):
        pass


def test_whatever_is_wrong_takes_the_same_time() -> None:
    users = {
        "cheap": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)),
        "middle": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(8)),
        "dear": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(11)),
    }
    passwords = Passwords()

    def seconds(name: str) -> float:
        """Of this thread's processor time."""
        began = time.thread_time()
        assert not passwords.admit(users, name, "wrong")
        return time.thread_time() - began

    # The least of each is what it takes: what else the machine does makes it more, for one name or another.
    found = dict.fromkeys((*users, "nobody"), float("inf"))
    for measured in range(1, 31):
        found = {name: min(least, seconds(name)) for name, least in found.items()}
        if measured >= 3 and max(found.values()) < 1.3 * min(found.values()):
            return
    pytest.fail(repr(found))


def test_as_many_passwords_as_there_may_be_are_remembered() -> None:
    users = {"alice": HUNTER2.encode()} | {str(n): HUNTER2.encode() for n in range(300)}
    passwords = Passwords()
    for name in users:
        assert passwords.admit(users, name, "hunter2")
        assert passwords.admit(users, "alice", "hunter2")
    remembered = [name for name in users if passwords._key(name, users[name], "hunter2") in passwords._right]
    assert remembered == ["alice", *map(str, range(45, 300))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no token in it"),
        ("# nothing\n\n", "there is no token in it"),
        (f"{TOKEN}\nshort\n", r"line 2: the token is shorter than 16 characters"),
        ("with a space in the middle\n", r"line 1: a token is of printable ASCII characters, without a space"),
        ("ümlaut-ümlaut-ümlaut\n", "line 1: a token is of printable ASCII"),
        ("operator:0123456789abcdef\n", "line 1: a token has no colon in it"),
        ("0123456789abcdef\x07\n", "line 1: a token is of printable ASCII"),
        ("0123456789abcde\n", "line 1: the token is shorter than 16 characters"),
        (f"\ufeff{TOKEN}", "line 1: it begins with a UTF-8 byte order mark"),
    ],
)
def test_tokens_that_cannot_be_used_are_told_and_not_shown(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(TokenError, match=message) as raised:
        read_tokens(file)
    assert str(raised.value).startswith(str(file))
    assert not any(line in str(raised.value) for line in text.split() if len(line) > 5 and line != "nothing")


def test_a_file_of_no_tokens_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(f"{TOKEN}\n\xff\n".encode("latin-1"))
    with pytest.raises(TokenError, match=f"^{tmp_path}/tokens: it is not UTF-8 text$"):
        read_tokens(tmp_path / "tokens")
    with pytest.raises(TokenError, match=f"^{tmp_path}: Is a directory$"):
        read_tokens(tmp_path)


def test_a_token_of_16_characters_is_long_enough(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("0123456789abcdef\n")
    assert read_tokens(tmp_path / "tokens") == ["0123456789abcdef"]


def test_a_token_in_the_environment_is_held_to_the_same() -> None:
    with pytest.raises(SecurityError, match="AMP_AUTH_TOKEN: the token is shorter than 16"):
        Security(token="short")
    with pytest.raises(SecurityError, match="AMP_AUTH_TOKEN: the token is shorter than 16"):
        Security(token="")


def test_every_token_is_compared() -> None:
    tokens = Tokens([TOKEN, OTHER])
    assert tokens.admit(TOKEN)
    assert tokens.admit(OTHER)
    assert not tokens.admit("")
    assert not Tokens()


@pytest.fixture
def admin(processes: Processes, tmp_path: Path) -> Served:
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    web_config = write(tmp_path / "web.yml", USERS + "http_server_config:\n  headers:\n    X-Frame-Options: deny\n")
    options = ("--auth-token-file", str(tmp_path / "tokens"), "--web.config.file", web_config)
    # What a request must never be able to have is in the environment here, for Granian to add to each of them.
    environment = {"AMP_AUTH_TOKEN": OTHER, "REMOTE_USER": "root", "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
    return Served(processes, "admin", *options, **environment)


def test_the_api_asks_in_its_own_shape_and_reads_its_files_again(admin: Served, tmp_path: Path) -> None:
    refused = admin.ask("/workers")
    assert refused.status == 401
    assert json.loads(refused.body) == {
        "error_code": "UNAUTHORIZED",
        "error_message": "a token or a user and a password is needed",
    }
    assert 'www-authenticate: bearer realm="amp workers"' in refused.headers
    assert 'www-authenticate: basic realm="amp workers"' in refused.headers
    assert "x-frame-options: deny" in refused.headers
    assert admin.ask("/workers", "-H", f"Authorization: Bearer {TOKEN}").status == 503  # in, and no database there
    assert admin.ask("/workers", "-H", f"Authorization: Bearer {OTHER}").status == 503
    assert admin.ask("/workers", "-u", "alice:hunter2").status == 503
    assert admin.ask("/workers", "-u", "alice:hunter3").status == 401
    assert admin.ask("/workers", "-X", "DELETE").status == 401
    assert admin.ask("/metrics").status == 401
    assert admin.ask("/-/healthy").status == 200
    unready = admin.ask("/-/ready")
    assert unready.status == 503
    assert json.loads(unready.body)["error_message"] == "not ready: the log says why"

    shown = command_lines(admin.process.pid, admin.serving())
    assert TOKEN not in shown + admin.process.output
    assert OTHER not in shown + admin.process.output

    # Rotation: the new beside the old, then the new alone.
    new = "the-token-of-next-month"
    write(tmp_path / "tokens", f"{TOKEN}\n{new}\n")
    eventually(lambda: admin.ask("/workers", "-H", f"Authorization: Bearer {new}").status == 503)
    assert admin.ask("/workers", "-H", f"Authorization: Bearer {TOKEN}").status == 503
    write(tmp_path / "tokens", f"{new}\n")
    eventually(lambda: admin.ask("/workers", "-H", f"Authorization: Bearer {TOKEN}").status == 401)
    write(tmp_path / "tokens", "short\n")
    admin.process.says("line 1: the token is shorter than 16 characters")
    assert admin.ask("/workers", "-H", f"Authorization: Bearer {new}").status == 503
    write(tmp_path / "web.yml", "")
    eventually(lambda: admin.ask("/workers", "-u", "alice:hunter2").status == 401)
    assert len(admin.process.descendants()) == 1


def test_a_user_of_the_environment_is_nobody(processes: Processes) -> None:
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
        (False, True, "takes passwords and tokens over the network in the clear"),
        (True, False, "is open to everybody who reaches this machine: give it users"),
        (True, True, None),
    ],
)
def test_what_is_open_to_the_network_says_so(
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


def test_a_server_that_others_reach_keeps_what_protects_it(
    processes: Processes, tmp_path: Path, authority: Authority
) -> None:
    authority.server()
    file, port = write(tmp_path / "web.yml", TLS + USERS), free_port()
    process = processes.ampd(
        "exporter", f"--web.listen-address=:{port}", "--web.config.file", file, database="postgresql://h/d"
    )
    process.says("listens on https://")
    (tmp_path / "web.yml").write_text("")
    process.says("restart it if that is meant; what was read before stays")
    for attempt in range(2):  # as the parent and the process that serves see it, and a new one
        eventually(lambda: shown_certificate(port), 20)
        curl = [tool("curl"), "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"https://localhost:{port}/metrics"]
        assert subprocess.run(curl, capture_output=True, text=True, check=True).stdout == "401"
        if attempt == 0:
            process.descendants()[0].kill()
    write(tmp_path / "web.yml", TLS + USERS.replace("alice", "bob"))
    process.says("read again")


def test_tokens_that_everybody_can_read_are_warned_of(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    (tmp_path / "tokens").chmod(0o644)
    listen = ("--web.listen-address", f"127.0.0.1:{free_port()}")
    options = ("--auth-token-file", str(tmp_path / "tokens"))
    process = processes.ampd("admin", *listen, *options, database="postgresql://h/d")
    process.says("can be read by every account of this machine: chmod 600")
    (tmp_path / "tokens").write_text(f"{OTHER}\n")
    process.says("can be read by every account of this machine: chmod 600", times=2)


def test_a_key_in_a_file_that_everybody_can_read_is_warned_of(tmp_path: Path, authority: Authority) -> None:
    blocks = [("cert", "server.pem"), ("key", "server.key")]
    authority.server()
    lines = [f"  {key}: |\n    " + (tmp_path / file).read_text().replace("\n", "\n    ") for key, file in blocks]
    file = Path(write(tmp_path / "web.yml", "tls_server_config:\n" + "\n".join(lines)))
    security = Security(file)
    file.chmod(0o600)
    assert security.secrets_open_to_all() == []
    file.chmod(0o640)  # a credential of systemd's, and a secret of Kubernetes', may show as this
    assert security.secrets_open_to_all() == []
    file.chmod(0o644)
    assert security.secrets_open_to_all() == [file]
    file.unlink()
    assert security.secrets_open_to_all() == []
