"""Every query of every panel and every rule, asked of a real Prometheus, returns what the database says.

One fleet has a worker in each state and one whose heartbeat lies in the future; its exporter is scraped as the job
`amp`, and a second one, that shows only sick workers, as `amp-sick`.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from amp_workers.metadata_db import State
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from grafana.builder import recording_rules as record
from grafana.builder.alerts import ALERTS
from grafana.builder.recording_rules import RECORDING_RULES
from tests.conftest import fresh_database
from tests.processes import ROOT, Process, Processes, eventually, free_port, get
from tests.prometheus import Prometheus, Vector, labelled

RULES = ROOT / "grafana" / "rules" / "amp.yml"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "grafana" / "dashboards").glob("*.json")}

SECONDS = 3.0
"""By how much two ages may differ that were not read in the same moment: the scrape is up to 1 s old."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Row:
    """A worker as the database has it. All times are Unix times."""

    node_id: str
    age: float
    heartbeat_at: float
    registered_at: float
    created_at: float
    version: str
    stopped: bool

    @property
    def state(self) -> str:
        if self.stopped:
            return "stopped"
        bounds = {"active": 5.0, "stale": 60.0, "lost": 86_460.0}
        return next((state for state, bound in bounds.items() if self.distance <= bound), "forgotten")

    @property
    def distance(self) -> float:
        """Of the heartbeat from now, past or future."""
        return abs(self.age)


@dataclass(frozen=True)
class Answers:
    """What Prometheus and the database said at the same time."""

    prometheus: Prometheus
    at: float
    """When that was, as Unix time."""

    rows: list[Row]
    lines: int
    """Samples of the exporter's answer to one scrape."""

    def of(self, *states: str) -> list[Row]:
        return [row for row in self.rows if row.state in states]

    def query(self, expression: str) -> Vector:
        return self.prometheus.query(expression, self.at)

    def count(self, *states: str) -> float:
        return float(len(self.of(*states)))


@pytest.fixture(scope="module")
def answers(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    directory = tmp_path_factory.mktemp("queries")
    processes = Processes(directory)
    with fresh_database(postgres) as url, psycopg.connect(url, autocommit=True) as connection:
        try:
            yield _run_the_fleet(processes, url, connection, directory)
        finally:
            processes.end()


def _run_the_fleet(
    processes: Processes, url: str, connection: psycopg.Connection[tuple[Any, ...]], directory: Path
) -> Answers:
    def work(node_id: str, version: str) -> Process:
        worker = processes.ampd("worker", "--node-id", node_id, database=url, env={"AMP_BUILD_VERSION": version})
        worker.says("registered")
        return worker

    for node_id, version in {"live-1": "v2", "live-2": "v2", "live-3": "v1"}.items():
        work(node_id, version)
    connection.execute(
        "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) VALUES "
        "('stale', now() - interval '6 seconds', '{\"version\": \"v1\"}', now() - interval '3 days', now()), "
        "('lost', now() - interval '10 minutes', '{\"version\": \"v1\"}', now() - interval '2 days', now()), "
        "('future', now() + interval '1 hour', '{\"version\": \"v2\"}', now(), now()), "
        "('forgotten', now() - interval '3 days', '{\"version\": \"v0\"}', now() - interval '9 days', now())"
    )
    assert work("stopped", "v1").stop() == 0
    restarted = work("live-4", "v2")
    rules = directory / "rules.yml"
    rules.write_text(RULES.read_text().replace("interval: 5s", "interval: 1s"))  # like the scrapes here
    late: list[str] = []
    for number in range(ATTEMPTS):
        ports = {"amp": free_port(), "amp-sick": free_port()}
        exporters = [
            processes.ampd(
                *("exporter", "--web.listen-address", f"127.0.0.1:{ports[job]}", "--collector.workers", mode),
                database=url,
            )
            for job, mode in (("amp", "all"), ("amp-sick", "unhealthy"))
        ]
        for port in ports.values():
            eventually(lambda port=port: get(f"http://127.0.0.1:{port}/-/ready"))  # type: ignore[misc]
        prometheus = Prometheus(processes, directory / f"prometheus-{number}", ports, rules=[rules])
        eventually(lambda prometheus=prometheus: prometheus.query(RESTARTING))  # type: ignore[misc]
        # The twenty seconds in which a fleet settles, and a restart within them.
        assert restarted.stop() == 0
        restarted = work("live-4", "v2")
        time.sleep(25)
        connection.execute(
            "UPDATE workers SET heartbeat_at = clock_timestamp() - interval '15 seconds' WHERE node_id = 'stale'"
        )
        time.sleep(3)  # Every exporter has seen that, and every rule.
        answers = _look(prometheus, ports["amp"], connection)
        late = _late(answers)
        if not late:
            assert {row.state for row in answers.rows} == {"active", "stale", "lost", "stopped", "forgotten"}
            return answers
        for process in (prometheus.process, *exporters):
            process.end()
    raise AssertionError(f"this machine did not do in time what is done every second: {late}")


def _look(prometheus: Prometheus, port: int, connection: psycopg.Connection[tuple[Any, ...]]) -> Answers:
    at = time.time()
    rows = [
        Row(*row)
        for row in connection.execute(
            "SELECT node_id, extract(epoch FROM clock_timestamp() - heartbeat_at)::float8, "
            "extract(epoch FROM heartbeat_at)::float8, extract(epoch FROM registered_at)::float8, "
            "extract(epoch FROM created_at)::float8, info->>'version', info ? 'stopped_at' FROM workers"
        )
    ]
    lines = [line for line in get(f"http://127.0.0.1:{port}/metrics").splitlines() if line[:1] != "#"]
    return Answers(prometheus, at, rows, len(lines))


def _late(answers: Answers) -> list[str]:
    """What was late in the seconds that the answers are about: nothing of ours is, where the machine is not."""
    late = [f"{row.node_id} beat {row.age} s ago" for row in answers.rows if row.node_id[:4] == "live" and row.age > 2]
    at = answers.at
    for expression in CALM:
        found = answers.query(expression)
        if found != {frozenset(): 2.0}:
            late.append(f"{expression}: {found}")
    if time.time() - at > SECONDS:
        late.append("these questions")
    return late


ATTEMPTS = 3
"""So often a whole Prometheus is set up, until it has the seconds without which nothing can be said of the others."""

RESTARTING = 'amp_worker_registered_timestamp_seconds{node_id="live-4"}'

CALM = [
    # Both exporters were scraped every second, in time, and had the metadata DB's answer,
    "count(count_over_time(up[25s]) >= 24)",
    "count(min_over_time(up[25s]) == 1)",
    "count(min_over_time(amp_metadata_db_up[25s]) == 1)",
    # and the last scrape is not old, nor what the rules made of it; `stale` was put back to 15 s before.
    "count(timestamp(up) >= time() - 2)",
    "count(timestamp(job:amp_fleet_settled:max) >= time() - 2)",
]


Wanted = dict[frozenset[tuple[str, str]], Any]
"""Like a Vector; an age or a time is approximate."""

Expected = Callable[[Answers], Wanted]


def one(value: Callable[[Answers], Any]) -> Expected:
    """One value, without labels."""
    return lambda answers: {frozenset(): value(answers)}


def each(states: tuple[str, ...], value: Callable[[Row], Any], *labels: str) -> Expected:
    """A value for each worker in some states, by its node id or by other labels."""
    names = labels or ("node_id",)
    return lambda answers: {
        labelled(**{name: getattr(row, name) for name in names}): value(row) for row in answers.of(*states)
    }


def by_version(share: bool) -> Expected:
    def expected(answers: Answers) -> Wanted:
        versions = [row.version for row in answers.of("active", "stale")]
        return {
            labelled(version=version): versions.count(version) / (len(versions) if share else 1)
            for version in set(versions)
        }

    return expected


def something(answers: Answers) -> Wanted:
    """Whatever it is, it is there: how long a query takes, the database does not know."""
    del answers
    return {}


KNOWN = ("active", "stale", "lost", "stopped")
BEATING = ("active", "stale", "lost")
SILENT = ("stale", "lost")
BUCKETS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, float("inf"))


def about(seconds: float) -> Any:
    return pytest.approx(seconds, abs=SECONDS)


def age(row: Row) -> Any:
    return about(row.age)


def distance(row: Row) -> Any:
    return about(row.distance)


def one_(_: Row) -> float:
    return 1.0


def about_milliseconds(seconds: float) -> Any:
    return pytest.approx(1000 * seconds, abs=1000 * SECONDS)


def milliseconds(field: str) -> Callable[[Row], Any]:
    return lambda row: about_milliseconds(getattr(row, field))


def in_state(state: str) -> Expected:
    return one(lambda answers: answers.count(state))


def within(answers: Answers) -> Wanted:
    """A heartbeat that is about as old as a bound may have been on its other side when it was scraped."""
    ages = [row.distance for row in answers.of(*BEATING)]

    def between(bound: float) -> Any:
        least, most = (sum(age <= bound + off for age in ages) for off in (-SECONDS, SECONDS))
        return pytest.approx((least + most) / 2, abs=(most - least) / 2)

    return {labelled(le="+Inf" if bound == BUCKETS[-1] else f"{bound}"): between(bound) for bound in BUCKETS}


RANK = {"lost": 5.0, "stale": 4.0, "active": 2.0, "stopped": 1.0}


def exporters(answers: Answers) -> Wanted:
    del answers
    return {labelled(text="1 of 1", up="1", all="1"): 1.0}


FLEET: dict[str, list[Expected]] = {
    "All workers": [one(lambda answers: len(answers.rows))],
    **{state.capitalize(): [in_state(state)] for state in State},
    "Share down": [one(lambda answers: answers.count(*SILENT) / answers.count(*BEATING))],
    "Stranded jobs": [lambda _: {}],
    "Metadata DB": [one(lambda _: 1)],
    "Exporters": [exporters],
    "Firing alerts": [something],
    "Worst workers": [something, each(SILENT, age), each(SILENT, milliseconds("registered_at"))],
    "Heartbeat age": [within],
    "Oldest heartbeat": [one(lambda answers: about(max(row.distance for row in answers.of(*BEATING))))],
    "Workers by state": [lambda answers: {labelled(state=state): answers.count(state) for state in State}],
    "Availability and worst state": [one(lambda _: 1), one(lambda _: 1), one(lambda _: 5)],
    "Workers by version": [by_version(share=False)],
    "The twenty longest silent": [each(SILENT, lambda row: RANK[row.state])],
    "The ten longest silent, heartbeat age": [each(SILENT, age)],
    "Restarts": [something],
    "Every worker": [something, each(BEATING, age), each(KNOWN, milliseconds("registered_at"))],
}

EXPORTER: dict[str, list[Expected]] = {
    "Metadata DB": [one(lambda _: 1)],
    "Exporters": [exporters],
    "Exporter's version": [lambda _: {labelled(version="0.1.0"): 1.0}],
    "Rows": [one(lambda answers: len(answers.rows))],
    "Series": [one(lambda answers: answers.lines)],
    "Running since": [one(lambda answers: pytest.approx(1000 * answers.at, abs=120_000))],
    "Who answered": [one(lambda _: 1), one(lambda _: 1)],
    "Failed queries": [
        lambda _: {labelled(reason=reason): 0.0 for reason in ("unreachable", "refused", "schema", "timeout", "query")}
    ],
    "Query duration": [something, something, something],
    "Scrape duration": [something],
    "Replay lag": [lambda _: {}],
    "Queries": [one(lambda _: pytest.approx(60, rel=0.1))],
    "Series over time": [one(lambda answers: answers.lines)],
    "CPU": [something],
    "Memory": [something],
    "Open files": [something],
}

NEEDS_ALL = "Needs the exporter's --collector.workers=all"


def worker_expectations(row: Row) -> dict[str, list[Expected]]:
    """The dashboard of one worker."""

    def present(known: bool, value: Any) -> list[Expected]:
        return [lambda _: {frozenset(): value} if known else {}]

    stopped = row.state == "stopped"
    beats = row.state in BEATING
    state = [*present(True, RANK[row.state])]
    return {
        "State": state,
        "State over time": state,
        "Heartbeat age": present(beats, about(row.age)),
        "Heartbeat age over time": present(beats, about(row.age)),
        "Last heartbeat": present(True, about_milliseconds(row.heartbeat_at)),
        "Registered": present(True, about_milliseconds(row.registered_at)),
        "Created": present(True, about_milliseconds(row.created_at)),
        "Stopped": present(stopped, about_milliseconds(row.heartbeat_at)),
        "Restarts": present(True, float(row.node_id == "live-4")),
        "Build info": [lambda _: {labelled(node_id=row.node_id, version=row.version): 1.0}],
        "Its version": [lambda _: {labelled(version=row.version): 1.0}],
        "The fleet's version": [lambda _: {labelled(version="v2"): 3.0}],
        "As most of the fleet": present(True, float(row.version == "v2")),
    }


RECORDED: dict[str, Expected] = {
    "job:amp_exporters_up:sum": one(lambda _: 1),
    "job:amp_scrape_interval_seconds:max": one(lambda _: about(5)),
    "job:amp_metadata_db_up:max": one(lambda _: 1),
    "job:amp_fleet_settled:max": one(lambda _: 1),
    "job:amp_metadata_db_replay_lag_seconds:max": lambda _: {},
    "job_node_id:amp_worker_silence_seconds:min": each(SILENT, distance),
    "job_node_id:amp_worker_ahead_seconds:max": lambda answers: {
        labelled(node_id=row.node_id): about(-row.age) for row in answers.rows if row.node_id == "future"
    },
    "job_node_id:amp_worker_failed:max": lambda _: {},
    "job_node_id:amp_worker_stuck:max": lambda _: {},
    "job:amp_workers_down:count": one(lambda answers: answers.count(*SILENT)),
    "job:amp_workers_down:ratio": one(lambda answers: answers.count(*SILENT) / answers.count(*BEATING)),
    "job:amp_workers_unhealthy:max": one(lambda answers: answers.count(*SILENT)),
    "job:amp_workers:max": one(lambda answers: len(answers.rows)),
    **dict.fromkeys((record.STRANDED, record.NOT_PICKED_UP, record.JOBS_IN_ERROR, record.LAST_FATAL), lambda _: {}),
    "job:amp_workers_active:max": one(lambda answers: answers.count("active")),
    "job:amp_versions:count": one(lambda _: 2),
}

ALERTING: dict[str, Expected] = {
    "AmpWatchdog": lambda _: {},  # no alert of this fleet
    "AmpWorkerFailed": lambda _: {},
    "AmpWorkerStuck": lambda _: {},
    "AmpJobsStranded": lambda _: {},
    "AmpJobsNotPickedUp": lambda _: {},
    "AmpJobsFailing": lambda _: {},
    "AmpExporterReplicaDown": lambda _: {},
    "AmpAdminApiDown": lambda _: {},
    "AmpExporterDown": lambda _: {},
    "AmpMetadataDbUnreachable": lambda _: {},
    "AmpMetadataDbLagging": lambda _: {},
    "AmpFleetUnsettled": lambda _: {},
    "AmpNoActiveWorkers": lambda _: {},
    "AmpFleetShareLost": one(lambda answers: answers.count(*SILENT) / answers.count(*BEATING)),
    "AmpWorkerHeartbeatStale": each(SILENT, distance),
    "AmpWorkerLost": each(("lost",), distance),
    "AmpWorkerRestarting": lambda _: {},
    "AmpHeartbeatFromTheFuture": RECORDED["job_node_id:amp_worker_ahead_seconds:max"],
    "AmpVersionSkew": one(lambda _: 2),
    "AmpExporterSlow": lambda _: {},
    "AmpExporterErrors": lambda _: {},
}


def test_every_panel_is_expected() -> None:
    row = Row("w", 0, 0, 0, 0, "v1", False)
    for name, expected in {"fleet": FLEET, "exporter": EXPORTER, "worker": worker_expectations(row)}.items():
        panels = {panel["title"]: panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"}
        assert expected.keys() == panels.keys()
        assert {title: len(queries) for title, queries in expected.items()} == {
            title: len(panel["targets"]) for title, panel in panels.items()
        }
    assert RECORDED.keys() == {rule.record for rule in RECORDING_RULES}
    assert ALERTING.keys() == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("title", FLEET)
def test_a_panel_of_the_fleet(answers: Answers, title: str) -> None:
    _check(answers, "fleet", title, FLEET[title], job="amp", search="")


@pytest.mark.parametrize("title", FLEET)
def test_a_panel_of_the_fleet_where_only_sick_workers_have_series(answers: Answers, title: str) -> None:
    """It shows the same, unless it says that it cannot."""
    if NEEDS_ALL in _panel("fleet", title)["description"]:
        for query in _queries("fleet", title, job="amp-sick", search=""):
            found = {value for labels in answers.query(query) for name, value in labels if name == "node_id"}
            assert found <= {row.node_id for row in answers.of(*SILENT)}
    else:
        _check(answers, "fleet", title, FLEET[title], job="amp-sick", search="")


def test_the_table_of_workers_is_narrowed_down(answers: Answers) -> None:
    query = _queries("fleet", "Every worker", job="amp", search="live")[0]
    assert {dict(labels)["node_id"] for labels in answers.query(query)} == {
        "live-1",
        "live-2",
        "live-3",
        "live-4",
    }


@pytest.mark.parametrize("node_id", ["live-1", "live-3", "live-4", "stale", "lost", "stopped"])
@pytest.mark.parametrize("title", worker_expectations(Row("w", 0, 0, 0, 0, "v1", False)))
def test_a_panel_of_one_worker(answers: Answers, title: str, node_id: str) -> None:
    (row,) = [row for row in answers.rows if row.node_id == node_id]
    _check(answers, "worker", title, worker_expectations(row)[title], job="amp", node_id=node_id)


@pytest.mark.parametrize("title", EXPORTER)
def test_a_panel_of_the_exporter(answers: Answers, title: str) -> None:
    _check(answers, "exporter", title, EXPORTER[title], job="amp")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_marks_on_the_graphs(answers: Answers, name: str) -> None:
    (worker,) = [row for row in answers.rows if row.node_id == "lost"]
    for annotation in DASHBOARDS[name].get("annotations", {}).get("list", []):
        found = answers.query(_fill(annotation["expr"], job="amp", node_id="lost"))
        if annotation["name"] == "Restarts":
            assert found == {frozenset(): about_milliseconds(worker.registered_at)}
        else:
            assert {dict(labels)["alertname"] for labels in found} == {
                "fleet": {"AmpFleetShareLost"},
                "worker": {"AmpWorkerHeartbeatStale", "AmpWorkerLost"},
            }[name]


def test_the_variables_offer_what_there_is(answers: Answers) -> None:
    """`label_values(series, label)` is Grafana's own word for the values of a label."""
    offered = {}
    for board in DASHBOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                call = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
                assert call is not None
                label = call[2]
                found = f'label_replace({_fill(call[1], job="amp")}, "found", "$1", "{label}", "(.*)")'
                series = answers.query(f"group by (found) ({found})")
                offered[variable["name"]] = {dict(labels)["found"] for labels in series}
    assert offered == {"job": {"amp", "amp-sick"}, "node_id": {row.node_id for row in answers.of(*KNOWN)}}


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("job", ["amp", "amp-sick"])
def test_a_recording_rule(answers: Answers, name: str, job: str) -> None:
    assert answers.query(f'{name}{{job="{job}"}}') == RECORDED[name](answers)


@pytest.mark.parametrize("name", ALERTING)
def test_an_alert(answers: Answers, name: str) -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    (expr,) = [rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == name]
    found = answers.query(f'({expr}) and on (job) group by (job) (up{{job="amp"}})')
    assert found == ALERTING[name](answers)


def _check(answers: Answers, dashboard: str, title: str, expected: list[Expected], **variables: str) -> None:
    for query, wanted in zip(_queries(dashboard, title, **variables), expected, strict=True):
        found = answers.query(query)
        if wanted is something:
            assert found, query
            assert all(value >= 0 for value in found.values())
        else:
            assert _without_build(found) == wanted(answers), query
        answers.prometheus.query_range(query, answers.at - 30, answers.at, 5)


def _without_build(found: Vector) -> Vector:
    """Without what differs from checkout to checkout."""
    return {
        frozenset((name, value) for name, value in labels if name not in _BUILD): value
        for labels, value in found.items()
    }


_BUILD = {"commit_sha", "commit_timestamp", "build_date"}


def _panel(dashboard: str, title: str) -> dict[str, Any]:
    (panel,) = [panel for panel in DASHBOARDS[dashboard]["panels"] if panel["title"] == title]
    return dict(panel)


def _queries(dashboard: str, title: str, **variables: str) -> list[str]:
    return [_fill(target["expr"], **variables) for target in _panel(dashboard, title)["targets"]]


def _fill(expr: str, **variables: str) -> str:
    """Fill in the variables of a dashboard, as Grafana does."""
    known = {"__range": "5m", "__rate_interval": "20s", "__interval": "5s"} | variables
    return re.sub(r"\$(\w+)", lambda match: known.get(match[1], match[0]), expr)
