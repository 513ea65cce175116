"""compose.yaml and the Dockerfile, as far as they can be checked with no container engine."""

import re
import tomllib
from pathlib import PurePosixPath
from typing import Any

import click
import pytest
import yaml

from amp_workers.ampd.cli import ampd
from tests.processes import ROOT, run, tool

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
OURS = {name for name, service in SERVICES.items() if "build" in service}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()

each_service = pytest.mark.parametrize("name", SERVICES)


def test_the_whole_deployment_is_there() -> None:
    others = {"postgres", "prometheus", "alertmanager", "grafana"}
    assert SERVICES.keys() == OURS | others
    assert {"migrate", "worker-01", "worker-02", "worker-03", "admin", "exporter"} == OURS


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
def test_what_runs_on_is_watched(name: str) -> None:
    """Whoever listens has a health check; a worker has its heartbeat."""
    service = SERVICES[name]
    assert ("healthcheck" in service) == ("ports" in service)
    assert service.get("restart") == (None if name == "migrate" else "unless-stopped")
    for other, how in service.get("depends_on", {}).items():
        assert other in SERVICES
        assert how["condition"] == ("service_completed_successfully" if other == "migrate" else "service_healthy")


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_commands_are_what_the_package_installs(name: str) -> None:
    program, command, *arguments = SERVICES[name]["command"]
    assert program in PYPROJECT["project"]["scripts"]
    environment = SERVICES[name]["environment"]
    with click.Context(ampd) as parent:
        subcommand = ampd.get_command(parent, command)
        assert subcommand is not None
        url = environment["AMP_METADATA_DB_URL"].replace("${AMP_DB_PASSWORD:-amp}", "amp")
        subcommand.make_context(command, ["--metadata-db-url", url, *arguments], parent=parent)


def test_the_health_checks_ask_where_something_listens() -> None:
    for name in ("admin", "exporter"):
        (port,) = SERVICES[name]["ports"]
        assert f"localhost:{port.split(':')[-1]}/-/healthy" in SERVICES[name]["healthcheck"]["test"][-1]
        assert SERVICES[name]["command"][-1] == f"0.0.0.0:{port.split(':')[-1]}"


def test_the_parts_find_each_other() -> None:
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
    assert copied == {"amp_workers", *(room.name for room in (ROOT / "amp_workers").iterdir() if room.is_symlink())}
    for source in re.findall(r"^COPY (.+) \./$", DOCKERFILE, re.M)[0].split():
        assert (ROOT / source).is_file()
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == copied | set(re.findall(r"^COPY (.+) \./$", DOCKERFILE, re.M)[0].split())


def test_the_image_knows_what_it_was_built_from() -> None:
    arguments = set(re.findall(r'(\w+)=""', DOCKERFILE))
    assert arguments == SERVICES["admin"]["build"]["args"].keys()
    for argument in arguments:
        variable = f"AMP_BUILD_{argument}".replace("BUILD_BUILD", "BUILD")
        assert f"{variable}=${argument}" in DOCKERFILE
