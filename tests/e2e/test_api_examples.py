"""The `curl` lines of `/docs`, run against `ampd solo` as they are printed."""

import html
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.admin.contract import DOCUMENT, assert_described, named
from tests.processes import Processes, eventually, free_port, get, run, tool

PRINTED = "http://localhost:1610"


@pytest.mark.slow
def test_each_line_gets_a_described_response(processes: Processes, tmp_path: Path) -> None:
    admin, exporter = (f"127.0.0.1:{free_port()}" for _ in range(2))
    addresses = ("--admin.listen-address", admin, "--exporter.listen-address", exporter)
    processes.ampd("solo", "--data-dir", str(tmp_path / "data"), *addresses)
    eventually(lambda: json.loads(get(f"http://{admin}/fleet"))["workers"]["active"] == 1, 60)
    lines = [html.unescape(line) for line in re.findall(r"<pre>(curl .*)</pre>", get(f"http://{admin}/docs"))]
    operations = [name for methods in DOCUMENT["paths"].values() for name in methods if name != "parameters"]
    assert len(lines) == len(operations)
    for line in lines:
        # Only the port differs: 1610 may be in use on this machine.
        command = shlex.join([tool("curl"), "--silent", "--include"]) + line.removeprefix("curl")
        answer = run("bash", "-c", command.replace(PRINTED, f"http://{admin}"), env={"AMP_AUTH_TOKEN": "x"}).stdout
        head, _, body = answer.partition("\n\n")
        status, *headers = head.splitlines()
        path = re.sub(r"\?.*", "", line.rpartition(PRINTED)[2].strip("'"))
        method = "DELETE" if "-X DELETE" in line else "GET"
        pairs = [(name, value.strip()) for name, _, value in (header.partition(":") for header in headers)]
        assert_described(method, path, int(status.split()[1]), named(pairs), body.encode())
        # No authentication is configured, so no worker can be deleted.
        assert int(status.split()[1]) == (403 if method == "DELETE" else 200), answer
