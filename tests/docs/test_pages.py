"""The blocks that start servers, or need files and passwords.

They are in README.md, docs/workers.md, docs/tls.md and docs/alerts.md.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import blocks_run_by
from tests.processes import ROOT, Process, Processes, eventually, free_port, get, run, tool

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]

URL = "postgresql://amp:secret@db.example.org:5432/amp"


class Pages:
    """Runs blocks as printed, except for the addresses of servers."""

    def __init__(self, processes: Processes, directory: Path) -> None:
        self._processes = processes
        self.directory = directory
        self.admin, self.exporter = free_port(), free_port()

    def here(self, block: str, database: str) -> str:
        """Return a block with the addresses of this test: commands that do not end run in the background."""
        block = block.replace(URL, database)
        for name, port, default in (("admin", self.admin, ":1610"), ("exporter", self.exporter, ":9610")):
            address = f"ampd {name} --web.listen-address"
            if address in block:
                block = block.replace(f"{address} {default}", f"{address} 127.0.0.1:{port}")
            else:
                block = block.replace(f"ampd {name}", f"{address} 127.0.0.1:{port}")
        block = block.replace("localhost:1610", f"localhost:{self.admin}")
        block = block.replace("localhost:9610", f"localhost:{self.exporter}")
        return re.sub(r"^(ampd (?:worker|admin|exporter) .*?)(?: *#.*)?$", r"\1 &", block, flags=re.M)

    def start(self, block: str, database: str) -> Process:
        command = self.here(block, database) + "\nwait\n"
        environment = {"AMP_METADATA_DB_URL": database}
        return self._processes.start("bash", "-euo", "pipefail", "-c", command, cwd=self.directory, env=environment)


@pytest.fixture
def pages(processes: Processes, tmp_path: Path) -> Pages:
    return Pages(processes, tmp_path)


def test_the_readme_installs_a_fleet(pages: Pages, empty_database: str) -> None:
    """README.md, without pip, which tests/test_package.py runs."""
    (block,) = blocks_run_by(__file__, "README.md")
    pip, _, block = block.partition("\n")
    assert pip == "python3 -m venv amp && . amp/bin/activate && pip install ."
    (pages.directory / "extract.py").write_text("import time\ntime.sleep(600)\n")
    pages.start(block, empty_database)

    def is_shown() -> bool:
        assert '"state":"active"' in get(f"http://127.0.0.1:{pages.admin}/workers/worker-01")
        return 'amp_workers{state="active"} 1' in get(f"http://127.0.0.1:{pages.exporter}/metrics")

    eventually(is_shown)


def test_workers_run_as_their_page_shows(pages: Pages, database: str, sql: Sql) -> None:
    """docs/workers.md: a worker without a program, with a program, and with a program that reports progress."""
    by_itself, around, with_watchdog, reports = blocks_run_by(__file__, "docs/workers.md")
    (pages.directory / "extract.py").write_text("import sys, time\nprint('extracts', sys.argv[1:], flush=True)\n")
    script = pages.directory / "extract.sh"
    script.write_text(f"#!/bin/sh\n{reports}sleep 600\n")
    script.chmod(0o755)

    worker = pages.start(by_itself, database)
    worker.says("registered as 'worker-01'")
    worker.end()

    worker = pages.start(around, database)
    worker.says("extracts ['--chain', 'mainnet']")
    assert worker.wait() == 0

    tool("systemd-notify")
    pages.start(with_watchdog, database)
    progress = "SELECT info ->> 'progress' FROM workers WHERE info ? 'watchdog_seconds'"
    eventually(lambda: sql(progress) == [("block 18,234,567",)])


def test_servers_use_tls_as_their_page_shows(pages: Pages, database: str) -> None:
    """docs/tls.md. The test types the password."""
    make, serve_metrics, serve_api, connect = blocks_run_by(__file__, "docs/tls.md")
    for program in ("curl", "openssl"):
        tool(program)
    made = run("bash", "-euo", "pipefail", "-c", f"{{ {make} }} <<<'pass phrase'", cwd=pages.directory)
    assert made.returncode == 0, made.stderr
    for block in (serve_metrics, serve_api):
        pages.start(block, database)
    assert "-u prometheus " in connect
    command = pages.here(connect, database).replace("-u prometheus ", "-u 'prometheus:pass phrase' ")

    def connects() -> bool:
        done = run("bash", "-euo", "pipefail", "-c", command, cwd=pages.directory)
        assert done.returncode == 0, done.stderr
        assert "amp_metadata_db_up 1" in done.stdout
        assert '{"workers":[]' in done.stdout
        return "No workers found" in done.stdout

    eventually(connects)


def test_the_links_of_alerts_move_as_their_page_shows(tmp_path: Path) -> None:
    """docs/alerts.md, in a copy of the files that the builder reads and writes."""
    (block,) = blocks_run_by(__file__, "docs/alerts.md")
    for room in ("grafana", "docs"):
        shutil.copytree(ROOT / room, tmp_path / room)
    built = run("bash", "-euo", "pipefail", "-c", block.replace(".venv/bin/", ""), cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    for rules in ("rules/amp.yml", "provisioning/alerting/amp.yml"):
        text = (tmp_path / "grafana" / rules).read_text()
        assert "localhost" not in text
        assert "https://grafana.example.org/" in text
        assert "https://wiki.example.org/runbooks/AmpWorkerLost" in text
