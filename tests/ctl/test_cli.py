"""`ampctl` as a process; what it prints of a running fleet is checked with the documentation's recipes in e2e."""

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctl.cli import _NODE_ID
from metadata_db import InvalidNodeId, check_node_id
from tests.node_ids import INVALID, VALID
from tests.processes import free_port, run


def test_an_api_that_is_not_there_is_told_with_its_url() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run("ampctl", "--admin-url", url, "worker", "list")
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot reach the Admin API at {url}: Connection refused\n"
    assert done.stdout == ""


def test_a_host_that_does_not_exist_is_told() -> None:
    done = run("ampctl", "worker", "list", env={"AMP_ADMIN_URL": "http://no-such-host.invalid"})
    assert done.returncode == 1
    assert "cannot reach the Admin API at http://no-such-host.invalid: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_hangs_up_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        threading.Thread(target=hang_up).start()
        done = run("ampctl", "--admin-url", f"http://127.0.0.1:{server.getsockname()[1]}", "worker", "list")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot reach the Admin API" in done.stderr


@pytest.fixture
def something_else() -> Iterator[str]:
    """A web server that is no Admin API."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_no_admin_api_is_told(something_else: str) -> None:
    done = run("ampctl", "--admin-url", something_else, "worker", "list")
    assert done.returncode == 1
    assert f"{something_else}/workers: HTTP 404 File not found, which is no answer of an Admin API" in done.stderr


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """An API that answers every request with one text: `answering("{}")` returns its URL."""
    servers: list[http.server.HTTPServer] = []

    def start(text: str) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = text.encode("utf-8", "surrogatepass")
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"a": 1}', '{"workers": null}', '{"workers": "abc"}', '{"workers": [{"x": 1}]}', "[" * 100_000],
    ids=lambda text: text[:20],
)
@pytest.mark.parametrize("command", [["list"], ["list", "--json"], ["inspect", "w"]])
def test_an_answer_of_another_shape_is_told(answering: Callable[[str], str], text: str, command: list[str]) -> None:
    done = run("ampctl", "--admin-url", answering(text), "worker", *command)
    assert done.returncode == 1
    assert "no answer of an Admin API" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_that_a_worker_says_controls_the_terminal(answering: Callable[[str], str]) -> None:
    odd = "a\x1b[31mRED\x07\r\n\u202e\ud800é"
    info = dict.fromkeys(("version", "commit_sha", "commit_timestamp", "build_date"), odd)
    worker = dict.fromkeys(("node_id", "created_at", "registered_at", "heartbeat_at"), odd) | {"info": info}
    for text, command in (
        (json.dumps({"workers": [worker]}), ["list"]),
        (json.dumps({"workers": [worker]}), ["list", "--json"]),
        (json.dumps(worker), ["inspect", "w"]),
        (json.dumps(worker), ["inspect", "w", "--json"]),
    ):
        done = run("ampctl", "--admin-url", answering(text), "worker", *command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.replace("\n", "").isprintable()
        assert "\\x1b" in done.stdout or "\\u001b" in done.stdout


def test_an_output_that_cannot_be_written_is_told(answering: Callable[[str], str]) -> None:
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
        ["--admin-url", "ftp://localhost", "worker", "list"],
        ["--admin-url", "http://localhost:port", "worker", "list"],
        ["--admin-url", "http://a b/", "worker", "list"],
        ["--admin-url", "http://localhost/é", "worker", "list"],
        ["--admin-url", "http://user:password@localhost", "worker", "list"],
        ["--admin-url", "http://localhost/?q=1", "worker", "list"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run("ampctl", *arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("node_id", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_node_id_is_wrong_usage(node_id: str) -> None:
    done = run("ampctl", "worker", "inspect", "--", node_id)
    assert done.returncode == 2
    assert "is no node id" in done.stderr


@pytest.mark.parametrize("node_id", [*VALID, *INVALID.values()])
def test_the_rule_is_the_same_as_the_servers(node_id: str) -> None:
    try:
        check_node_id(node_id)
        valid = True
    except InvalidNodeId:
        valid = False
    assert bool(_NODE_ID.fullmatch(node_id)) == valid


@pytest.mark.parametrize("arguments", [[], ["worker"], ["worker", "list"], ["worker", "inspect"]])
def test_every_level_has_help_with_an_example(arguments: list[str]) -> None:
    done = run("ampctl", *arguments, "--help")
    assert done.returncode == 0
    assert arguments == ["worker"] or "Example" in done.stdout


def test_it_imports_no_other_room() -> None:
    code = "import sys, ctl.cli; print([m for m in ('flask', 'sqlalchemy', 'metadata_db') if m in sys.modules])"
    assert run("python", "-c", code).stdout == "[]\n"
