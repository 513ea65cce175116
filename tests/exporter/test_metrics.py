import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from amp_workers.exporter import create_app
from amp_workers.exporter.families import ALL, EXPORTER, FLEET, WORKER
from amp_workers.metadata_db import AGE_BOUNDS, MetadataDbUrl, Thresholds
from tests.conftest import Insert
from tests.metadata_db import amp
from tests.metadata_db.amp_jobs import Scheduler
from tests.processes import ROOT

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}

ODD = 'quote " backslash \\n and \\" line\nfeed 🚀 é'


SECONDS = 20.0
"""The time that may pass on a busy machine between writing and reading a row: no state and no bucket changes within it.
"""

THRESHOLDS = Thresholds(stale_after=SECONDS, lost_after=120.0)


def client(url: str, collect: str = "all") -> FlaskClient:
    made = create_app(MetadataDbUrl.parse(url), THRESHOLDS, collect, "/metrics", "9.9.9").test_client()
    made.environ_base["HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"] = "60"
    return made


@pytest.fixture
def exporter(database: str) -> FlaskClient:
    return client(database)


@pytest.fixture
def fleet(insert_worker: Insert) -> None:
    """A worker in every state."""
    insert_worker("active", 0.0, '{"version": "v1", "commit_sha": "c1"}')
    insert_worker("odd", 0.0, json.dumps({"version": ODD, "build_date": ""}))
    insert_worker("stale", 35.0, '{"version": "v1"}')
    insert_worker("lost", 600.0, '{"version": "v0"}')
    insert_worker("stuck", 0.0, '{"version": "v1", "watchdog_triggered": true}')
    insert_worker("stopped", 600.0, '{"version": "v1", "stopped_at": "2999-01-15T17:20:15+00:00"}')
    insert_worker("failed", 0.0, '{"stopped_at": "2999-01-15T17:20:15+00:00", "failure": "exit code 7"}')
    insert_worker("forgotten", 90_000.0, '{"version": "v0"}')
    insert_worker("future", -600.0, "[]")


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str, parse: Callable[[str], Any] = parse_text) -> Samples:
    families: list[Metric] = list(parse(text))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def values(found: Samples, name: str, label: str) -> dict[str, float]:
    return {dict(labels)[label]: value for (sample, labels), value in found.items() if sample == name}


@pytest.mark.usefixtures("fleet")
def test_every_state_is_exported(exporter: FlaskClient) -> None:
    found = samples(exporter.get("/metrics").text)
    assert found["amp_metadata_db_up", ()] == 1
    assert values(found, "amp_workers", "state") == {
        "active": 2,
        "stuck": 1,
        "stale": 1,
        "lost": 2,
        "stopped": 1,
        "failed": 1,
        "forgotten": 1,
    }
    assert values(found, "amp_workers_by_version", "version") == {"v1": 3, ODD: 1}
    ages = values(found, "amp_worker_heartbeat_age_seconds", "node_id")
    assert set(ages) == {"active", "odd", "stuck", "stale", "lost", "future"}
    assert 0 <= ages["active"] < SECONDS
    assert 35 <= ages["stale"] < 35 + SECONDS
    assert -600 <= ages["future"] < -600 + SECONDS
    series = set(ages) | {"stopped", "failed"}
    for family in ("heartbeat", "registered", "created"):
        assert set(values(found, f"amp_worker_{family}_timestamp_seconds", "node_id")) == series
    assert set(values(found, "amp_worker_stopped_timestamp_seconds", "node_id")) == {"stopped", "failed"}
    infos = [dict(labels) for (name, labels) in found if name == "amp_worker_info"]
    assert {info["node_id"] for info in infos} == series
    assert next(info for info in infos if info["node_id"] == "odd") == {
        "node_id": "odd",
        "version": ODD,
        "commit_sha": "unknown",
        "commit_timestamp": "unknown",
        "build_date": "unknown",
    }


def test_a_node_id_that_is_not_valid_is_escaped(exporter: FlaskClient, insert_worker: Insert) -> None:
    insert_worker(ODD)
    found = samples(exporter.get("/metrics").text)
    for family in ("heartbeat_age_seconds", "registered_timestamp_seconds", "info"):
        assert set(values(found, f"amp_worker_{family}", "node_id")) == {ODD}


@pytest.mark.usefixtures("fleet")
def test_the_histogram_is_of_the_workers_whose_heartbeats_are_expected(exporter: FlaskClient) -> None:
    found = samples(exporter.get("/metrics").text)
    buckets = values(found, "amp_fleet_heartbeat_age_seconds_bucket", "le")
    assert buckets["30.0"] == 3
    assert buckets["60.0"] == 4
    assert buckets["900.0"] == buckets["+Inf"] == 6
    assert found["amp_fleet_heartbeat_age_seconds_gcount", ()] == 6
    # The distances are absolute: 600 s in the past and 600 s in the future are 1,200 s together.
    total = found["amp_fleet_heartbeat_age_seconds_gsum", ()]
    assert total == pytest.approx(35 + 600 + 600, abs=3.5 * SECONDS)
    oldest = found["amp_fleet_oldest_heartbeat_age_seconds", ()]
    assert oldest == pytest.approx(600, abs=SECONDS)


@pytest.mark.usefixtures("fleet")
def test_both_formats_have_the_same_samples(exporter: FlaskClient) -> None:
    text, openmetrics = exporter.get("/metrics"), exporter.get("/metrics", headers=OPENMETRICS)
    assert text.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    assert openmetrics.text.count("# EOF") == 1

    def ours(found: Samples) -> Samples:
        moving = ("age_seconds", "query_duration")
        return {
            key: 0.0 if any(word in key[0] for word in moving) else value
            for key, value in found.items()
            if key[0].startswith("amp_")
        }

    assert ours(samples(text.text)) == ours(samples(openmetrics.text, parse_openmetrics))


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("collect", "nodes"),
    [
        ("all", {"active", "odd", "stuck", "stale", "lost", "stopped", "failed", "future"}),
        ("unhealthy", {"failed", "stale", "lost", "stuck", "future"}),
        ("none", set()),
    ],
)
def test_which_workers_have_series_can_be_chosen(database: str, collect: str, nodes: set[str]) -> None:
    found = samples(client(database, collect).get("/metrics").text)
    assert set(values(found, "amp_worker_info", "node_id")) == nodes
    assert sum(values(found, "amp_workers", "state").values()) == 9


@pytest.mark.usefixtures("fleet")
def test_names_restrict_the_families(exporter: FlaskClient) -> None:
    text = exporter.get("/metrics?name[]=amp_workers&name[]=amp_worker_info").text
    assert {name for name, _ in samples(text)} == {"amp_workers", "amp_worker_info"}
    assert exporter.get("/metrics?name[]=nothing").text == ""


def test_an_empty_fleet_has_every_fleet_family(exporter: FlaskClient) -> None:
    found = samples(exporter.get("/metrics").text)
    assert values(found, "amp_workers", "state") == dict.fromkeys(
        ("failed", "lost", "stale", "stuck", "active", "stopped", "forgotten"), 0
    )
    assert found["amp_workers_failed_recently", ()] == 0
    assert found["amp_fleet_heartbeat_age_seconds_gcount", ()] == 0
    assert not [name for name, _ in found if "jobs" in name]
    assert ("amp_fleet_oldest_heartbeat_age_seconds", ()) not in found
    assert found["amp_fleet_heartbeat_age_seconds_gsum", ()] == 0
    assert set(values(found, "amp_fleet_heartbeat_age_seconds_bucket", "le").values()) == {0}
    assert len(values(found, "amp_fleet_heartbeat_age_seconds_bucket", "le")) == len(AGE_BOUNDS) + 1


def test_an_unavailable_database_is_reported_as_down() -> None:
    exporter = client("postgresql://u:hunter2@127.0.0.1:1/d")
    response = exporter.get("/metrics")
    assert response.status_code == 200
    found = samples(response.text)
    assert found["amp_metadata_db_up", ()] == 0
    absent = {family.name for family in (*FLEET, *WORKER)} - {"amp_metadata_db_up"}
    assert not [name for name, _ in found if name.startswith(tuple(absent))]
    assert found["amp_exporter_scrape_errors_total", (("reason", "unreachable"),)] == 1
    ready = exporter.get("/-/ready")
    assert ready.status_code == 503
    assert "hunter2" not in ready.text + response.text
    assert exporter.get("/-/healthy").status_code == 200


@pytest.fixture
def work(database: str, insert_worker: Insert) -> None:
    """Jobs in each status, and workers that report progress or have run a program."""
    insert_worker("reports", 0.0, '{"watchdog_seconds": 1e6, "progress": "block 7", "progress_at": "2999-01-01"}')
    insert_worker("killed", 0.0, '{"stopped_at": "2999-01-15", "failure": "killed by SIGKILL", "exit_code": 137}')
    amp.add_jobs(database)
    with Scheduler(database) as scheduler:
        for node_id in ("active", "lost", "lost", "never-registered"):
            scheduler.schedule(node_id)
        scheduler.update(scheduler.schedule("active"), "FATAL")


@pytest.mark.usefixtures("fleet", "work")
def test_the_documentation_the_declarations_and_the_output_are_one_list(exporter: FlaskClient) -> None:
    """`docs/metrics.md`, `exporter/families.py` and `/metrics` have the same names, types, labels and help."""
    declared = {
        (family.name + "_total" if family.type == "counter" else family.name): (family.type, set(family.labels))
        for family in ALL
    }
    rows = re.findall(r"^\| `(amp_\w+)` \| ([\w ]+) \|([^|]*)\|", (ROOT / "docs" / "metrics.md").read_text(), re.M)
    documented = {name: (kind.replace(" ", ""), set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert documented == declared

    text = exporter.get("/metrics", headers=OPENMETRICS).text
    parse: Callable[[str], Any] = parse_openmetrics
    families = {family.name: family for family in parse(text) if family.name.startswith("amp_")}
    for family in ALL:
        told = families.pop(family.name)
        assert (told.type, told.documentation) == (family.type, family.help)
        labels = {label for sample in told.samples for label in sample.labels}
        assert labels - {"le"} == set(family.labels) - {"le"}
    assert families == {}
    assert {family.name for family in EXPORTER} < {family.name for family in ALL}


def test_every_family_is_documented_with_a_query() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    for family in ALL:
        name = family.name + "_total" if family.type == "counter" else family.name
        section = text.split(f"### `{name}`", 1)
        assert len(section) == 2, f"docs/metrics.md has no section on {name}"
        example = section[1].split("### ", 1)[0]
        assert "```promql" in example
        assert name in example.split("```promql", 1)[1]


def test_the_landing_page_names_the_exporter_and_its_links(exporter: FlaskClient) -> None:
    page = exporter.get("/")
    assert page.content_type == "text/html; charset=utf-8"
    assert "Amp worker exporter" in page.text
    assert "9.9.9" in page.text
    links = re.findall(r'href="([^"]*)"', page.text)
    assert links == ["metrics", "-/healthy", "-/ready"], "relative, so that a proxy may serve them below a prefix"
    for link in links:
        assert exporter.get(f"/{link}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
def test_methods(exporter: FlaskClient, path: str) -> None:
    assert exporter.head(path).status_code == 200
    assert exporter.head(path).text == ""
    assert {"GET", "HEAD", "OPTIONS"} <= set(exporter.options(path).headers["Allow"].replace(" ", "").split(","))
    assert exporter.post(path).status_code == 405


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/metrics", 405)])
def test_an_error_is_one_plain_line(exporter: FlaskClient, method: str, path: str, status: int) -> None:
    answer = exporter.open(path, method=method)
    assert (answer.status_code, answer.content_type) == (status, "text/plain; charset=utf-8")
    assert answer.text.endswith(".\n")
    assert answer.text.count("\n") == 1
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.usefixtures("fleet")
def test_gzip_is_sent_to_a_client_that_accepts_it(exporter: FlaskClient) -> None:
    plain = exporter.get("/metrics?name[]=amp_worker_info")
    packed = exporter.get("/metrics?name[]=amp_worker_info", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert {"Accept", "Accept-Encoding"} <= set(plain.headers["Vary"].split(", "))
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    refused = exporter.get("/metrics", headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in refused.headers


@pytest.mark.parametrize("header", ["4.5", "", "soon", "-1", "1e400", "nan"])
def test_any_scrape_timeout_is_used_or_ignored(exporter: FlaskClient, header: str) -> None:
    response = exporter.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": header})
    assert samples(response.text)["amp_metadata_db_up", ()] == 1
