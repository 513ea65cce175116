"""The container image: built from the Dockerfile, and run as in compose.yaml, with PostgreSQL on the host."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from amp_workers.build_info import build_info
from tests.clusters import Cluster
from tests.deploy.containers import Container, Engine, engine
from tests.processes import ROOT, Processes, eventually, free_port, get

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test waits for the build

IMAGE = "localhost/amp-worker-management:latest"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
(BASE,) = set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.M))

LARGEST = 200_000_000
"""The maximum size beyond the base image, in bytes."""


@pytest.fixture(scope="module")
def containers() -> Iterator[Engine]:
    """Return an engine with the image, which `make image` builds."""
    with engine() as made:
        name = f"docker.io/library/{BASE}"
        made.make_base(name)
        variables = (f"PYTHON={sys.executable}", f"ENGINE={made.builder}", "ARGS=--quiet --network=host --pull-never")
        made.build("make", "image", *variables)
        yield made


@pytest.fixture(scope="module")
def built_from(containers: Engine) -> dict[str, str]:
    """The build information of the checkout that the image was built from."""
    return build_info(os.environ)


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory, open_directory: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server on TCP."""
    processes = Processes(tmp_path_factory.mktemp("postgresql"))
    cluster = Cluster(open_directory / "outside", processes)
    cluster.initialise()
    port = free_port()
    cluster.start("listen_addresses=127.0.0.1", f"port={port}")
    yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    processes.end()


class Fleet:
    """The services of compose.yaml, on the host network."""

    def __init__(self, containers: Engine, url: str) -> None:
        self._containers, self._url = containers, url
        self.ports = {"admin": free_port(), "exporter": free_port()}

    def start(self, name: str, service: str, *command: str) -> Container:
        """Start a container as a service of compose.yaml, with the service's command or another one."""
        definition = SERVICES[service]
        options = [f"--env=AMP_METADATA_DB_URL={self._url}"]
        options += ["--read-only"] if definition["read_only"] else []
        options += [f"--tmpfs={path}" for path in definition["tmpfs"]]
        options += [f"--cap-drop={capability}" for capability in definition["cap_drop"]]
        options += [f"--security-opt={option.removesuffix(':true')}" for option in definition["security_opt"]]
        if "healthcheck" in definition:
            check = json.dumps(definition["healthcheck"]["test"][1:])  # without CMD, which podman would append
            options += [f"--health-cmd={self._on_free_port(check)}", "--health-interval=disable"]
        # In compose files, `$$` is an escaped `$`.
        own = [self._on_free_port(argument).replace("$$", "$") for argument in definition["command"]]
        return self._containers.start(name, IMAGE, options, command or own)

    def _on_free_port(self, text: str) -> str:
        for name, port in self.ports.items():
            published = SERVICES[name]["ports"][0].rpartition(":")[2]
            text = text.replace(f":{published}", f":{port}")
        return text

    def row(self, node_id: str) -> dict[str, Any]:
        """Return the `info` of a worker."""
        with psycopg.connect(self._url) as connection:
            row = connection.execute("SELECT info FROM workers WHERE node_id = %s", (node_id,)).fetchone()
        info: dict[str, Any] = row[0] if row else {}
        return info


@pytest.fixture(scope="module")
def fleet(containers: Engine, postgresql: str) -> Fleet:
    """The containers' configuration, with a metadata DB that a container has migrated."""
    made = Fleet(containers, postgresql)
    migration = made.start("migrate", "migrate")
    assert migration.wait() == 0, migration.output
    return made


def registered(fleet: Fleet, node_id: str) -> Callable[[], dict[str, Any]]:
    return lambda: fleet.row(node_id)


def test_the_image_is_labelled_with_what_it_was_built_from(containers: Engine, built_from: dict[str, str]) -> None:
    image = containers.inspect(IMAGE)
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image["Labels"].items()}
    assert labels["title"] == "amp-worker-management"
    assert labels["licenses"] == "MIT"
    assert (labels["version"], labels["revision"]) == (built_from["version"], built_from["commit_sha"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["created"])


def test_the_image_is_small_and_does_not_run_as_root(containers: Engine) -> None:
    image = containers.inspect(IMAGE)
    assert image["User"] == "10001:10001"
    assert 0 < image["Size"] - containers.inspect(BASE)["Size"] < LARGEST


def test_a_container_has_no_rights_and_cannot_write(fleet: Fleet) -> None:
    script = "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/self/status; touch /tmp/x && echo tmp; touch /opt/amp/x"
    container = fleet.start("rights", "worker", "sh", "-c", script)
    assert container.wait() == 1
    status = dict(line.split(":\t", 1) for line in container.output.splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert "tmp\n" in container.output
    assert "Read-only file system" in container.output


def test_the_image_has_no_postgresql_and_solo_reports_that(fleet: Fleet) -> None:
    container = fleet.start("solo", "worker", "ampd", "solo", "--data-dir=/tmp/amp")
    assert container.wait() == 1
    assert "pip install 'amp-worker-management[solo]'" in container.output


def test_a_worker_registers_with_the_commit_and_records_its_stop(fleet: Fleet, built_from: dict[str, str]) -> None:
    worker = fleet.start("worker", "worker", "ampd", "worker", "--node-id=worker-01")
    eventually(registered(fleet, "worker-01"), 60)
    assert worker.stop() == 0, worker.output
    info = fleet.row("worker-01")
    assert "stopped_at" in info
    assert "failure" not in info
    for key in ("version", "commit_sha", "commit_timestamp"):
        assert info[key] == built_from[key]
    assert worker.output.count("Traceback") == 0


def test_a_worker_of_compose_has_a_node_id_of_its_own(fleet: Fleet) -> None:
    worker = fleet.start("scaled", "worker")
    worker.says("node_id=worker-")
    (node_id,) = set(re.findall(r"node_id=(worker-\S+)", worker.output))
    eventually(registered(fleet, node_id), 60)
    assert worker.stop() == 0, worker.output


def test_a_program_in_a_container_is_stopped_and_its_exit_code_recorded(fleet: Fleet) -> None:
    command = ("ampd", "worker", "--node-id=program", "--", "sh", "-c", "echo started; exec sleep 1000")
    worker = fleet.start("program", "worker", *command)
    worker.says("started")
    assert worker.stop() == 143, worker.output
    info = fleet.row("program")
    assert (info["exit_code"], "failure" in info) == (143, False)


def test_a_program_that_fails_gives_the_container_its_exit_code(fleet: Fleet) -> None:
    worker = fleet.start("failing", "worker", "ampd", "worker", "--node-id=failing", "--", "sh", "-c", "exit 7")
    assert worker.wait() == 7, worker.output
    assert fleet.row("failing")["failure"] == "exit code 7"


def test_admin_and_exporter_are_healthy_serve_the_fleet_and_stop(fleet: Fleet, built_from: dict[str, str]) -> None:
    worker = fleet.start("seen", "worker", "ampd", "worker", "--node-id=seen")
    admin, exporter = fleet.start("admin", "admin"), fleet.start("exporter", "exporter")
    for server in (admin, exporter):
        eventually(server.is_healthy, 60)
    listed = admin.run("ampctl", f"--admin-url=http://127.0.0.1:{fleet.ports['admin']}", "worker", "list")
    assert (listed.returncode, listed.stderr) == (0, "")

    def scraped() -> bool:
        metrics = get(f"http://127.0.0.1:{fleet.ports['exporter']}/metrics")
        assert 'amp_workers{state="active"} 1' in metrics
        assert "amp_metadata_db_up 1" in metrics
        return True

    eventually(scraped, 60)
    assert re.search(r"^seen \(last heartbeat: ", listed.stdout, re.M)
    shown = exporter.run("ampd", "--version").stdout
    assert shown == f"ampd, version {built_from['version']}\n"
    for container in (admin, exporter, worker):
        assert container.stop() == 0, container.output


def test_the_health_check_fails_without_a_server(fleet: Fleet) -> None:
    idle = fleet.start("idle", "exporter", "sleep", "1000")
    assert not idle.is_healthy()
