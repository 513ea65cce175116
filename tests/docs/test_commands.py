"""Each command and query of a page works on a running fleet, unless the comment above its block states otherwise."""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import yaml

from amp_workers.metadata_db.embedded import EmbeddedPostgres, account, find_place
from tests.admin.witness import witness
from tests.alarm.alertmanager import start_alertmanager
from tests.conftest import fresh_database
from tests.ctl.terminal import Terminal
from tests.docs.pages import PAGES, RUNBOOKS, Block, blocks, name
from tests.processes import ROOT, Processes, clean_environment, eventually, free_port, get, run, tool
from tests.prometheus import Prometheus

pytestmark = pytest.mark.slow

RULES = ROOT / "grafana" / "rules" / "amp.yml"

NOT_RUN = re.compile(r"not run: \S.+")
RUN_BY = re.compile(r"run by (tests/[\w/]+\.py)")


def unmarked(language: str) -> list[object]:
    """Return the blocks without a comment. Each text appears once."""
    found: dict[str, Block] = {}
    for block in blocks(language):
        if not block.mark:
            found.setdefault(block.text, block)
    return [pytest.param(block, id=str(block)) for block in found.values()]


@dataclass(frozen=True)
class Fleet:
    """Three workers and each server of a deployment, on free ports."""

    ports: dict[str, int]
    prometheus: Prometheus
    environment: dict[str, str]

    def here(self, command: str) -> str:
        """Return a command with the ports of this fleet."""
        for port, ours in self.ports.items():
            command = command.replace(f"localhost:{port}", f"127.0.0.1:{ours}")
        for program in ("curl", "jq"):
            if re.search(rf"\b{program}\b", command):
                tool(program)
        # In the pages, `|| true` accepts a failing answer. On this fleet, no command may fail.
        return command.replace(" || true", "").replace(".venv/bin/", "")

    def run(self, command: str) -> None:
        done = run("bash", "-euo", "pipefail", "-c", self.here(command), env=self.environment)
        assert done.returncode == 0, done.stderr

    def shows(self, command: str) -> str:
        """Return the output of a command on a terminal."""
        shell = ["bash", "-euo", "pipefail", "-c", self.here(command)]
        terminal = Terminal(*shell, env=self.environment | {"NO_COLOR": "1"}, columns=100)
        try:
            assert terminal.wait() == 0, terminal.output
            return terminal.output.replace("\r\n", "\n")
        finally:
            terminal.end()


@pytest.fixture(scope="module")
def fleet(
    postgres: EmbeddedPostgres, open_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    processes = Processes(directory)
    admin, exporter = free_port(), free_port()
    with fresh_database(postgres) as url:
        try:
            for node_id in ("worker-01", "worker-02", "worker-03"):
                processes.ampd("worker", "--node-id", node_id, database=url).says("registered")
            processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{admin}", database=url)
            processes.ampd("exporter", "--web.listen-address", f"127.0.0.1:{exporter}", database=url)
            alertmanager = start_alertmanager(processes, directory, free_port())
            prometheus = Prometheus(
                processes, directory / "prometheus", {"amp": exporter}, rules=[RULES], alertmanager=alertmanager
            )
            eventually(lambda: get(f"http://127.0.0.1:{admin}/-/ready"))
            eventually(lambda: prometheus.query("job:amp_fleet_settled:max"), 60)
            with witness(admin) as seen:
                ports = {"1610": seen, "9610": exporter, "9090": prometheus.port, "9093": alertmanager}
                psql = psql_environment(url, find_place(open_directory / "postgres", account()).programs)
                yield Fleet(ports, prometheus, psql | {"AMP_ADMIN_URL": f"http://127.0.0.1:{seen}"})
        finally:
            processes.end()


def psql_environment(url: str, programs: Path) -> dict[str, str]:
    """Return the environment in which `psql` connects without arguments."""
    with psycopg.connect(url) as connection:
        info = connection.info
        server = {"PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": info.user, "PGDATABASE": info.dbname}
        return server | {"PATH": f"{programs}:{clean_environment()['PATH']}"}


@pytest.mark.parametrize("block", unmarked("sh"))
def test_a_command_works(fleet: Fleet, block: Block) -> None:
    fleet.run(block.text)


def pattern(expected: str) -> str:
    """Return the regular expression for an output: versions, times, ages and spaces may differ."""
    escaped = re.sub(r"(\\ )+", " +", re.escape(expected))
    escaped = re.sub(r"v\d[\w\\.-]*", lambda _: r"\S+", escaped)
    escaped = re.sub(r"\b\d+[smhd]\b", lambda _: r"(\d+[smhd])+", escaped)
    return re.sub(r"\d{4}\\-\d\d\\-\d\dT\d\d:\d\d:\d\dZ", lambda _: r"\S+Z", escaped)


@pytest.mark.parametrize("block", unmarked("console"))
def test_a_command_prints_what_the_page_shows(fleet: Fleet, block: Block) -> None:
    _, *sessions = re.split(r"^\$ ", block.text, flags=re.M)
    for session in sessions:
        command, _, expected = session.partition("\n")

        def prints(command: str = command, expected: str = expected) -> bool:
            printed = re.sub(r" +$", "", fleet.shows(command), flags=re.M)
            assert re.fullmatch(pattern(expected), printed), printed
            return True

        eventually(prints)  # on a busy machine, a worker may be stale for a moment


@pytest.mark.parametrize("block", unmarked("promql"))
def test_a_query_is_answered(fleet: Fleet, block: Block) -> None:
    fleet.prometheus.query(block.text)


@pytest.mark.parametrize("block", unmarked("yaml"))
def test_a_configuration_is_valid(block: Block, tmp_path: Path) -> None:
    """YAML parses it. Prometheus parses a Prometheus configuration."""
    if "scrape_configs" in yaml.safe_load(block.text):
        (tmp_path / "prometheus.yml").write_text(block.text)
        checked = run(tool("promtool"), "check", "config", str(tmp_path / "prometheus.yml"))
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_block_is_run_or_states_why_not(page: Path) -> None:
    """A block in any other language is plain text."""
    for block in (block for block in blocks("sh", "bash", "console", "python", "sql", "") if block.page == name(page)):
        assert block.language not in ("", "bash"), f"{block}: name its language: sh, console, promql, yaml or text"
        assert block.mark or block.language in ("sh", "console"), f"{block}: no test runs this language: say which does"
        if run_by := RUN_BY.fullmatch(block.mark):
            reads = page.name in (ROOT / run_by[1]).read_text() or page.parent == RUNBOOKS
            assert reads, f"{block}: {run_by[1]} does not read the page"
        else:
            assert not block.mark or NOT_RUN.fullmatch(block.mark), f"{block}: <!-- {block.mark} -->"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_python_module_that_a_command_names_exists(page: Path) -> None:
    for module in re.findall(r"python3? -m ([\w.]+)", page.read_text()):
        assert importlib.util.find_spec(module), module
