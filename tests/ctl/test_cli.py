"""`ampctl` as a process. The documentation's recipes in e2e check its output for a running fleet."""

import http.server
import json
import os
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from amp_workers.build_info import version
from amp_workers.ctl.cli import ampctl
from amp_workers.ctl.connection import Connection
from amp_workers.ctl.errors import ApiError, InvalidAdminUrl
from amp_workers.ctl.node_ids import NODE_ID
from amp_workers.metadata_db import InvalidNodeId, check_node_id
from tests.ctl.contract_api import ContractApi, a_worker, serving
from tests.node_ids import INVALID, VALID
from tests.processes import free_port, run, run_ampctl


def invoke(*arguments: str) -> Result:
    """Run a command in this process, for tests that need no process."""
    without = {name: None for name in os.environ if name.startswith("AMP")}
    return CliRunner().invoke(ampctl, arguments, prog_name="ampctl", env=without)


def test_an_unreachable_api_is_reported_with_its_url() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run_ampctl("--admin-url", url, "worker", "list")
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot reach the Admin API at {url}: Connection refused\n"
    assert done.stdout == ""


def test_an_unknown_host_is_reported() -> None:
    done = run_ampctl("worker", "list", env={"AMP_ADMIN_URL": "http://no-such-host.invalid"})
    assert done.returncode == 1
    assert "cannot reach the Admin API at http://no-such-host.invalid: " in done.stderr
    assert "Traceback" not in done.stderr


def test_an_invalid_host_is_reported() -> None:
    done = run_ampctl("--admin-url", "http://amp..example", "worker", "list")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot reach the Admin API at http://amp..example: " in done.stderr


@pytest.mark.parametrize(
    ("says", "reported"),
    [
        (b"", "Remote end closed connection without response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the server does not speak HTTP; is the scheme https://?"),
        (b"\x15\x03\x03\x00\x02\x02\x32", "the server does not speak HTTP; is the scheme https://?"),  # a TLS alert
        (b"HTTP/\x1b[31m 200 OK\r\n\r\n", r"HTTP/\x1b[31m"),
    ],
    ids=["nothing", "SSH", "TLS", "escapes"],
)
def test_a_server_without_http_is_reported(says: bytes, reported: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(says)

        threading.Thread(target=answer).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = run_ampctl("--admin-url", url, "worker", "list")
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot reach the Admin API at {url}: {reported}\n"


@pytest.fixture
def something_else() -> Iterator[str]:
    """Yield the URL of a web server that is not an Admin API."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_another_server_is_reported(something_else: str) -> None:
    done = run_ampctl("--admin-url", something_else, "worker", "list")
    assert done.returncode == 1
    assert f"{something_else}/workers: HTTP 404 File not found: this is not a response of an Admin API" in done.stderr


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """An API that returns one text for each request: `answering("{}")` returns its URL."""
    servers: list[http.server.HTTPServer] = []

    def start(text: str) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = text.encode("utf-8", "surrogatepass")
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
                """Write nothing: the standard error of an in-process command is this process's."""

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@contextmanager
def sending(*pieces: bytes, pause: float = 0.0) -> Iterator[str]:
    """Send pieces of a response on each connection, with a pause after each piece; return the URL."""
    ended = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            with suppress(OSError):  # the client has closed the connection
                for piece in pieces:
                    self.request.sendall(piece)
                    if ended.wait(pause):
                        return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            ended.set()
            server.shutdown()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def test_a_response_that_does_not_end_is_abandoned() -> None:
    drops = [b" "] * 1_000_000
    with sending(HEAD % len(drops), *drops, pause=0.05) as url, pytest.raises(ApiError, match="cannot reach the Admin"):
        Connection(url, timeout_seconds=0.5).request("GET", "/workers")


@pytest.mark.parametrize(
    ("sent", "reported"),
    [
        (HEAD % 500 + b'{"workers": [', "the connection was closed in the middle of the response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "closed in the middle of the response"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "HTTP 302 redirects to an unknown address"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n<html>", "HTTP 401 Unauthorized; set AMP_AUTH_TOKEN"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "HTTP 502 Bad Gateway: this is not a response of an Admin API"),
    ],
    ids=["short", "short chunk", "redirect", "proxy", "gateway"],
)
def test_an_incomplete_or_foreign_response_is_reported(sent: bytes, reported: str) -> None:
    with sending(sent) as url:
        done = invoke("--admin-url", url, "worker", "list")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert reported in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"a": 1}', '{"workers": null}', '{"workers": "abc"}', '{"workers": [{"x": 1}]}', "[" * 100_000),
        json.dumps({"workers": [a_worker("w") | {"info": []}]}),
        json.dumps({"workers": [a_worker("w") | {"info": {"version": 5}}]}),
        json.dumps({"workers": [a_worker("w") | {"jobs": "5"}]}),
        '{"workers": [], "next": "the same again and again"}',
        '{"workers": [], "next": 5}',
    ],
    ids=lambda text: text[:30],
)
@pytest.mark.parametrize(
    "command", [["worker", "list"], ["worker", "list", "--json"], ["worker", "inspect", "w"], ["version"]]
)
def test_a_response_of_another_shape_is_reported(
    answering: Callable[[str], str], text: str, command: list[str]
) -> None:
    done = invoke("--admin-url", answering(text), *command)
    assert done.exit_code == 1
    assert "not a response of an Admin API" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("age", ["null", '"5"', "NaN", "Infinity", "1e400", "1" * 400])
def test_an_invalid_age_is_reported(answering: Callable[[str], str], age: str) -> None:
    text = json.dumps({"workers": [a_worker("w", age=1.5)]}).replace("1.5", age)
    done = invoke("--admin-url", answering(text), "worker", "list", "--wide")
    assert done.exit_code == 1
    assert "not a response of an Admin API" in done.stderr


@pytest.mark.slow
def test_no_text_of_a_worker_controls_the_terminal(answering: Callable[[str], str]) -> None:
    odd = "a\x1b[31mRED\x07\r\n\u202e\ud800é"
    info = dict.fromkeys(("version", "commit_sha", "commit_timestamp", "build_date"), odd)
    worker: dict[str, object] = dict.fromkeys(
        ("node_id", "state", "created_at", "registered_at", "heartbeat_at"), odd
    ) | {"heartbeat_age_seconds": 1.5, "info": info}
    for text, command in (
        (json.dumps({"workers": [worker]}), ["list"]),
        (json.dumps({"workers": [worker]}), ["list", "--json"]),
        (json.dumps({"workers": [worker]}), ["list", "--wide"]),
        (json.dumps({"workers": [worker]}), ["list", "--output", "csv"]),
        (json.dumps(worker), ["inspect", "w", "--wide"]),
        (json.dumps(worker), ["inspect", "w"]),
        (json.dumps(worker), ["inspect", "w", "--json"]),
        (json.dumps(worker), ["check", "w", "--version", "v1"]),
        (json.dumps(worker), ["forget", "w", "--dry-run"]),
    ):
        done = run_ampctl("--admin-url", answering(text), "worker", *command)
        assert done.returncode == (1 if "check" in command else 0), done.stderr
        assert done.stdout.replace("\n", "").isprintable()
        assert "\\x1b" in done.stdout or "\\u001b" in done.stdout
    done = run_ampctl("--admin-url", answering(json.dumps({"info": {"version": odd}})), "version")
    assert (done.returncode, "\x1b" in done.stdout, "\\x1b" in done.stdout) == (0, False, True)


def test_no_error_of_the_api_controls_the_terminal(contract_api: ContractApi) -> None:
    contract_api.says = 400, {"error_code": "X", "error_message": "a\x1b[31mRED\r\n"}
    done = run_ampctl("--admin-url", contract_api.url, "worker", "list")
    assert done.stderr == f"Error: {contract_api.url}/workers: a\\x1b[31mRED\\r\\n (X)\n"


def test_an_api_may_have_a_path_prefix(contract_api: ContractApi) -> None:
    done = run_ampctl("--admin-url", f"{contract_api.url}/amp/", "worker", "list")
    assert contract_api.asked == ["GET /amp/workers"]
    assert f"{contract_api.url}/amp/workers: " in done.stderr


def test_a_reader_may_close_the_pipe_early() -> None:
    with serving(ContractApi(FLEET_OF_25_000)) as api:  # more than the buffer of a pipe
        done = run("bash", "-o", "pipefail", "-c", f"ampctl --admin-url {api.url} worker list | head -1")
    assert (done.returncode, done.stdout[:7], done.stderr) == (1, "w-00001", "")


def test_an_output_that_cannot_be_written_is_an_error(answering: Callable[[str], str]) -> None:
    command = f"ampctl --admin-url {answering(json.dumps({'workers': []}))} worker list > /dev/full"
    done = run("bash", "-c", command)
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "frobnicate"],
        ["worker", "list", "--nonsense"],
        ["worker", "inspect"],
        ["--admin-url", "localhost:1610", "worker", "list"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert "Error: " in done.stderr


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("localhost:1610", "'localhost:1610': no scheme"),
        ("", "'': no scheme"),
        ("ftp://localhost", "the scheme is 'ftp'"),
        ("http://", "no host"),
        ("http://localhost:port", "Port could not be cast"),
        ("http://localhost:99999", "Port out of range"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://a b/", "a character that no URL has"),
        ("http://localhost/é", "a character that no URL has"),
        ("http://user:password@localhost", "set AMP_AUTH_TOKEN to user:password"),
        ("http://localhost/?q=1", "only a scheme, a host, a port and a path"),
        ("http://localhost/#part", "only a scheme, a host, a port and a path"),
    ],
)
def test_an_invalid_url_is_refused_with_its_problem(url: str, problem: str) -> None:
    with pytest.raises(InvalidAdminUrl, match=re.escape(problem)):
        Connection(url)


@pytest.mark.parametrize("node_id", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_node_id_is_wrong_usage(node_id: str) -> None:
    done = invoke("worker", "inspect", "--", node_id)
    assert done.exit_code == 2
    assert "invalid node id" in done.stderr


@pytest.mark.parametrize("node_id", [*VALID, *INVALID.values()])
def test_client_and_server_have_the_same_rule_for_node_ids(node_id: str) -> None:
    try:
        check_node_id(node_id)
        valid = True
    except InvalidNodeId:
        valid = False
    assert bool(NODE_ID.fullmatch(node_id)) == valid


def test_it_imports_no_other_room() -> None:
    code = "import sys, amp_workers.ctl.cli; print({'flask', 'sqlalchemy', 'amp_workers.metadata_db'} & {*sys.modules})"
    assert run("python", "-c", code).stdout == "set()\n"


def test_the_versions_of_both_ends_are_shown(admin_url: str) -> None:
    done = run_ampctl("--admin-url", admin_url, "version")
    assert done.returncode == 0
    assert done.stdout == f"ampctl {version({})}\nAdmin API {version({})} ({admin_url})\n"


def test_its_own_version_is_shown_while_the_api_is_unavailable() -> None:
    done = run_ampctl("--admin-url", f"http://127.0.0.1:{free_port()}", "version")
    assert done.returncode == 1
    assert done.stdout == f"ampctl {version({})}\n"
    assert "cannot reach the Admin API" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["worker", "lst"], "list"),
        (["workr"], "worker"),
        (["worker", "list", "--stat", "lost"], "--state"),
        (["--admin-ulr", "x", "version"], "--admin-url"),
    ],
)
def test_a_mistyped_command_or_option_is_recognized(arguments: list[str], meant: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert f"'{meant}'" in done.stderr.splitlines()[-1]


def test_a_mistyped_node_id_is_recognized(api_url: str, patient: dict[str, str]) -> None:
    done = run_ampctl("--admin-url", api_url, "worker", "inspect", "epsilon-100", env=patient)
    assert done.returncode == 1
    assert done.stderr.endswith("(WORKER_NOT_FOUND). Did you mean 'epsilon-10'?\n")
    unlike = run_ampctl("--admin-url", api_url, "worker", "inspect", "x")
    assert unlike.stderr.endswith("(WORKER_NOT_FOUND)\n")


def test_an_unknown_node_id_is_reported_even_if_the_others_cannot_be_read() -> None:
    class AwayThen(ContractApi):
        def answer(self, method: str, target: str, authorization: str | None) -> tuple[int, Any]:
            answer = super().answer(method, target, authorization)
            self.silent = True
            return answer

    with serving(AwayThen([a_worker("worker-1")])) as api:
        done = run_ampctl("--admin-url", api.url, "worker", "inspect", "worker-2")
    assert done.returncode == 1
    assert done.stderr.endswith("(WORKER_NOT_FOUND)\n")


FLEET_OF_25_000 = [a_worker(f"w-{number:05}") for number in range(1, 25_001)]


def test_a_mistyped_node_id_is_recognized_at_the_end_of_a_large_fleet(patient: dict[str, str]) -> None:
    with serving(ContractApi(FLEET_OF_25_000)) as api:
        ampctl = ("ampctl", "--admin-url", api.url, "worker")
        done = run(*ampctl, "inspect", "w-25001", env=patient)
        assert done.stderr.endswith("(WORKER_NOT_FOUND). Did you mean 'w-25000'?\n")
        done = run(*ampctl, "forget", "w-25001", "w-2500x", "--dry-run", env=patient)
        assert done.stderr.count("Did you mean 'w-25000'?\n") == 2
        assert len([each for each in api.asked if "?" in each]) == 6  # the pages, which are read once per command


@pytest.mark.slow
def test_a_fleet_that_cannot_be_read_in_time_gives_no_suggestion() -> None:
    class Slow(ContractApi):
        def answer(self, method: str, target: str, authorization: str | None) -> tuple[int, Any]:
            time.sleep(1.1 if "?" in target else 0)
            return super().answer(method, target, authorization)

    with serving(Slow(FLEET_OF_25_000)) as api:
        done = run_ampctl("--admin-url", api.url, "worker", "inspect", "w-25001")
    assert done.stderr.endswith("(WORKER_NOT_FOUND)\n")
    assert len(api.asked) in {2, 3}  # the worker, and one or two of the three pages
