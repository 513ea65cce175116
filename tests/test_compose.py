"""compose.yaml and the Dockerfile, checked without a container engine."""

import re
import shlex
import tomllib
from pathlib import PurePosixPath
from typing import Any

import click
import pytest
import yaml

from amp_workers.ampd.cli import ampd
from amp_workers.build_info import ENVIRONMENT
from amp_workers.metadata_db import check_node_id
from tests.processes import ROOT, run, tool

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
OURS = {name for name, service in SERVICES.items() if "build" in service}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()

each_service = pytest.mark.parametrize("name", SERVICES)


def test_every_service_of_the_deployment_exists() -> None:
    others = {"postgres", "prometheus", "alertmanager", "grafana"}
    assert SERVICES.keys() == OURS | others
    assert {"migrate", "worker", "admin", "exporter"} == OURS


def test_the_profile_monitoring_has_only_the_monitoring_services() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    monitoring = {"prometheus", "alertmanager", "grafana"}
    assert profiles == {name: ["monitoring"] if name in monitoring else None for name in SERVICES}


@each_service
def test_ports_are_open_on_loopback_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@each_service
def test_images_are_pinned(name: str) -> None:
    if name not in OURS:
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?", SERVICES[name]["image"])


@each_service
def test_what_is_mounted_exists(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, target = volume.split(":")[:2]
        assert PurePosixPath(target).is_absolute()
        if source.startswith("."):
            assert (ROOT / source).exists()
            assert volume.endswith(":ro")


@each_service
def test_a_long_running_service_has_a_health_check(name: str) -> None:
    """A service that listens has a health check. A worker has its heartbeat."""
    service = SERVICES[name]
    assert ("healthcheck" in service) == ("ports" in service)
    assert service.get("restart") == (None if name == "migrate" else "unless-stopped")
    for other, how in service.get("depends_on", {}).items():
        assert other in SERVICES
        assert how["condition"] == ("service_completed_successfully" if other == "migrate" else "service_healthy")


def test_each_worker_that_is_scaled_has_a_node_id_of_its_own() -> None:
    assert SERVICES["worker"]["deploy"]["replicas"] == 3
    assert "container_name" not in SERVICES["worker"]
    # In compose files, `$$` is an escaped `$`. A hostname is the beginning of the container's id.
    command = [argument.replace("$$", "$") for argument in SERVICES["worker"]["command"]]
    command[-1] = command[-1].replace("exec ampd worker --node-id", "printf %s")
    assert run(*command, env={"HOSTNAME": "0a1b2c3d4e5f"}).stdout == "worker-0a1b2c3d4e5f"
    check_node_id("worker-0a1b2c3d4e5f")


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_commands_are_what_the_package_installs(name: str) -> None:
    words = SERVICES[name]["command"]
    if words[0] == "sh":
        words = shlex.split(words[-1].removeprefix("exec ").replace("$$HOSTNAME", "0"))
    program, command, *arguments = words
    assert program in PYPROJECT["project"]["scripts"]
    environment = SERVICES[name]["environment"]
    with click.Context(ampd) as parent:
        subcommand = ampd.get_command(parent, command)
        assert subcommand is not None
        url = environment["AMP_METADATA_DB_URL"].replace("${AMP_DB_PASSWORD:-amp}", "amp")
        subcommand.make_context(command, ["--metadata-db-url", url, *arguments], parent=parent)


def test_the_health_checks_use_the_listen_addresses() -> None:
    for name in ("admin", "exporter"):
        (port,) = SERVICES[name]["ports"]
        assert f"localhost:{port.split(':')[-1]}/-/healthy" in SERVICES[name]["healthcheck"]["test"][-1]
        assert SERVICES[name]["command"][-1] == f"0.0.0.0:{port.split(':')[-1]}"


def test_the_services_use_each_others_addresses() -> None:
    prometheus = yaml.safe_load((ROOT / "grafana" / "prometheus.yml").read_text())
    (alertmanager,) = prometheus["alerting"]["alertmanagers"]
    (source,) = yaml.safe_load((ROOT / "grafana/provisioning/datasources/amp.yml").read_text())["datasources"]
    hosts = [
        *(host for scrape in prometheus["scrape_configs"] for host in scrape["static_configs"][0]["targets"]),
        *alertmanager["static_configs"][0]["targets"],
        source["url"].removeprefix("http://"),
    ]
    for host, port in (host.split(":") for host in hosts):
        assert SERVICES[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    mounted = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert {str(PurePosixPath(rules).parent) for rules in prometheus["rule_files"]} <= mounted
    (provider,) = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/amp.yml").read_text())["providers"]
    grafana = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    assert grafana[provider["options"]["path"]] == "./grafana/dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "grafana" / "dashboards" / PurePosixPath(home).name).is_file()


def test_promtool_accepts_the_configuration() -> None:
    checked = run(tool("promtool"), "check", "config", "--syntax-only", str(ROOT / "grafana" / "prometheus.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_image_has_the_whole_package() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.M))
    files = " ".join(re.findall(r"^COPY (.+) \./$", DOCKERFILE, re.M)).split()
    assert copied == {"amp_workers", *(room.name for room in (ROOT / "amp_workers").iterdir() if room.is_symlink())}
    assert all((ROOT / source).is_file() for source in files)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == copied | set(files)


def test_the_image_has_its_build_information() -> None:
    arguments = set(re.findall(r'(\w+)=""', DOCKERFILE))
    assert arguments == SERVICES["admin"]["build"]["args"].keys()
    assert set(re.findall(r"(AMP_BUILD_\w+)=\$", DOCKERFILE)) == set(ENVIRONMENT.values())
    printed = run("python", "-m", "deploy.build_arguments", cwd=ROOT).stdout
    assert set(re.findall(r"^(\w+)=\S+$", printed, re.M)) == arguments
