"""The manifests of deploy/kubernetes, checked without a cluster."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from amp_workers.ampd.cli import ampd
from amp_workers.ampd.worker import worker
from grafana.builder.links import Links
from grafana.builder.prometheus_rules import prometheus_rules
from tests.processes import ROOT, run, tool

KUBERNETES = ROOT / "deploy" / "kubernetes"
BUILT = [
    str(path.parent.relative_to(KUBERNETES))
    for kind in ("base", "overlays/*", "examples/*")
    for path in sorted(KUBERNETES.glob(f"{kind}/kustomization.yaml"))
]
VERSIONS = ("1.30", "1.37")
"""The oldest version that the documentation names, and the newest with known schemas."""

OPERATOR = "monitoring.coreos.com/v1"
"""The API group of the Prometheus Operator, for which kubernetes-validate has no schemas."""

RECORDING_SECONDS = 4

each_built = pytest.mark.parametrize("built", BUILT)

Resource = dict[str, Any]


@cache
def resources(built: str) -> list[Resource]:
    """Return the resources that `kubectl apply -k` would apply."""
    done = run(tool("kubectl"), "kustomize", str(KUBERNETES / built))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return list(yaml.safe_load_all(done.stdout))


def named(built: str, kind: str) -> dict[str, Resource]:
    return {each["metadata"]["name"]: each for each in resources(built) if each["kind"] == kind}


def pods(built: str) -> dict[str, Resource]:
    """Return the pod specifications, by the names of the resources that create them."""
    kinds = ("Deployment", "StatefulSet", "Job")
    return {name: each["spec"]["template"]["spec"] for kind in kinds for name, each in named(built, kind).items()}


@each_built
@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_valid(built: str, version: str) -> None:
    for resource in resources(built):
        if resource["apiVersion"] != OPERATOR:
            kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_field_is_detected(version: str) -> None:
    (service, *_) = named("base", "Service").values()
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service | {"spec": {"selectors": {}}}, version, strict=True)


@each_built
def test_the_operator_chooses_the_namespace(built: str) -> None:
    for resource in resources(built):
        assert "namespace" not in resource["metadata"]


@each_built
def test_pods_meet_the_restricted_pod_security_standard(built: str) -> None:
    for pod in pods(built).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert {*pod} & {"hostNetwork", "hostPID", "hostIPC"} == set()
        assert {kind for volume in pod["volumes"] for kind in volume} <= {"name", "secret", "configMap", "emptyDir"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"].keys() == {"requests", "limits"}


@each_built
def test_every_command_is_one_of_the_image(built: str, tmp_path: Path) -> None:
    """The command itself parses its arguments. The pod mounts the files that they name; the test creates them."""
    for pod in pods(built).values():
        (container,) = pod["containers"]
        mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
        words: list[str] = [*container["command"], *container.get("args", [])]
        program, command, arguments = words[0], words[1], words[2:]
        assert program == "ampd"
        files = [argument for argument in arguments if argument.startswith("/etc/")]
        url_file = variables(container)["AMP_METADATA_DB_URL_FILE"]["value"]
        for file in [*files, url_file]:
            assert str(Path(file).parent) in mounted
        arguments = ["--metadata-db-url=postgresql://localhost/amp", *arguments]
        if "AMP_NODE_ID" in variables(container):
            arguments = ["--node-id=pod-0", *arguments]
        with click.Context(ampd) as parent:
            subcommand = ampd.get_command(parent, command)
            assert subcommand is not None
            subcommand.make_context(command, arguments, parent=parent)


def variables(container: Resource) -> dict[str, Resource]:
    return {variable["name"]: variable for variable in container["env"]}


@each_built
def test_a_pod_mounts_the_whole_secret_and_only_its_own_url(built: str) -> None:
    """Not by subPath: a subPath mount would keep the old file when the Secret changes."""
    roles = {"amp-admin": "reader", "amp-exporter": "reader", "amp-migrate": "owner", "extractor": "worker"}
    for name, pod in pods(built).items():
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "metadata-db"]
        assert volume["secret"]["items"] == [{"key": f"{roles[name]}-url", "path": "metadata-db-url"}]
        assert volume["secret"]["defaultMode"] == 0o440
        assert pod["securityContext"]["fsGroup"] == 10001
        for container in pod["containers"]:
            assert all("subPath" not in mount for mount in container["volumeMounts"])


@pytest.mark.parametrize("built", [built for built in BUILT if not built.startswith("examples/")])
def test_probes_and_services_are_where_the_servers_listen(built: str) -> None:
    scheme = "HTTPS" if built == "overlays/tls" else None
    for name in ("amp-admin", "amp-exporter"):
        (container,) = pods(built)[name]["containers"]
        (port,) = container["ports"]
        command = container["command"]
        assert command[command.index("--web.listen-address") + 1] == f":{port['containerPort']}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            checked = container[probe]["httpGet"]
            assert (checked["path"], checked["port"], checked.get("scheme")) == ("/-/healthy", port["name"], scheme)
        (served,) = named(built, "Service")[name]["spec"]["ports"]
        assert (served["port"], served["targetPort"]) == (port["containerPort"], port["name"])
        deployment = named(built, "Deployment")[name]
        for selector in (
            named(built, "Service")[name]["spec"]["selector"],
            named(built, "PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"],
            named(built, "NetworkPolicy")[name]["spec"]["podSelector"]["matchLabels"],
            deployment["spec"]["selector"]["matchLabels"],
        ):
            assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        grace = pods(built)[name]["terminationGracePeriodSeconds"]
        assert grace > int(container["lifecycle"]["preStop"]["exec"]["command"][1]) + 15


@pytest.mark.parametrize("built", [built for built in BUILT if built.startswith("examples/")])
def test_an_extractor_has_time_to_record_its_stop(built: str) -> None:
    (pod,) = pods(built).values()
    (container,) = pod["containers"]
    command = container["command"]
    stop_timeout = int(command[command.index("--stop-timeout") + 1])
    (default,) = (option.default for option in worker.params if option.name == "stop_timeout")
    assert stop_timeout >= int(str(default).removesuffix("s"))
    assert pod["terminationGracePeriodSeconds"] > stop_timeout + RECORDING_SECONDS
    assert variables(container)["AMP_NODE_ID"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


@pytest.mark.parametrize("built", ["overlays/monitored", "overlays/tls"])
def test_prometheus_gets_the_jobs_that_the_rules_select(built: str) -> None:
    prometheus = yaml.safe_load((ROOT / "grafana/prometheus.yml").read_text())
    jobs = {each["job_name"] for each in prometheus["scrape_configs"]}
    services = named(built, "Service")
    monitors = named(built, "ServiceMonitor")
    assert monitors.keys() == services.keys()
    assert {services[name]["metadata"]["labels"][each["spec"]["jobLabel"]] for name, each in monitors.items()} == jobs
    for name, monitor in monitors.items():
        assert monitor["apiVersion"] == OPERATOR
        assert monitor["spec"]["selector"]["matchLabels"].items() <= services[name]["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == services[name]["spec"]["ports"][0]["name"]
        assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("5s", "4s")
        assert endpoint.get("scheme") == ("https" if built == "overlays/tls" else None)


@pytest.mark.parametrize("built", ["overlays/monitored", "overlays/tls"])
def test_the_rules_are_those_of_the_rule_file(built: str) -> None:
    (rule,) = named(built, "PrometheusRule").values()
    assert rule["apiVersion"] == OPERATOR
    assert rule["spec"] == yaml.safe_load((ROOT / "grafana/rules/amp.yml").read_text()) == prometheus_rules(Links())


@pytest.mark.parametrize("built", ["overlays/monitored", "overlays/tls"])
def test_every_dashboard_is_a_configmap_for_the_sidecar_of_grafana(built: str) -> None:
    maps = [each for each in named(built, "ConfigMap").values() if "dashboard" in each["metadata"]["name"]]
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
    boards = {name: text for each in maps for name, text in each["data"].items()}
    assert boards == {path.name: path.read_text() for path in (ROOT / "grafana/dashboards").glob("*.json")}


def test_the_database_of_an_amp_fleet_is_not_migrated() -> None:
    assert pods("overlays/attach-to-amp").keys() == {"amp-admin", "amp-exporter"}


def test_the_documentation_names_every_overlay_and_example() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    for built in BUILT:
        assert built.rpartition("/")[2] in page
    assert re.findall(r"Kubernetes (\d+\.\d+)", page)[:1] == [VERSIONS[0]]
