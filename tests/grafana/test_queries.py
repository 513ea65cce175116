"""A real Prometheus evaluates each query of the panels and rules, and returns what the database has.

One fleet has a worker in each state, and one whose heartbeat lies in the future. The job `amp` scrapes its exporter.
The job `amp-sick` scrapes a second exporter, which has series of unhealthy workers only. The job `admin-amp` scrapes
its Admin API.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from amp_workers import build_info
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
"""The maximum difference of two ages that were read at different moments: the scrape is up to 1 s old."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


@dataclass(frozen=True)
class Row:
    """A worker in the database. All times are Unix times."""

    node_id: str
    age: float
    heartbeat_at: float
    registered_at: float
    created_at: float
    version: str
    stopped: bool = False
    failure: str | None = None
    exit_code: float | None = None
    watchdog: float | None = None
    progress_age: float | None = None

    @property
    def state(self) -> str:
        if self.stopped:
            return "stopped" if self.failure is None else "failed"
        bounds = {"active": 5.0, "stale": 60.0, "lost": 86_460.0}
        state = next((state for state, bound in bounds.items() if self.distance <= bound), "forgotten")
        is_late = self.watchdog is not None and self.progress_age is not None and self.progress_age > self.watchdog
        return "stuck" if state == "active" and is_late else state

    @property
    def distance(self) -> float:
        """The distance of the heartbeat from now, past or future."""
        return abs(self.age)


@dataclass(frozen=True)
class Answers:
    """The results of Prometheus and the rows of the database at the same time."""

    prometheus: Prometheus
    at: float
    """The time of the results, as Unix time."""

    rows: list[Row]
    lines: int
    """The number of samples in one scrape of the exporter."""

    def of(self, *states: str) -> list[Row]:
        return [row for row in self.rows if row.state in states]

    def query(self, expression: str) -> Vector:
        return self.prometheus.query(expression, self.at)

    def count(self, *states: str) -> float:
        return float(len(self.of(*states)))


@pytest.fixture(scope="module")
def answers(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    directory = tmp_path_factory.mktemp("queries")
    processes = Processes(directory, forks_ampd=True)
    with fresh_database(postgres) as url, psycopg.connect(url, autocommit=True) as connection:
        try:
            yield _run_the_fleet(processes, url, connection, directory)
        finally:
            processes.end()


def _run_the_fleet(
    processes: Processes, url: str, connection: psycopg.Connection[tuple[Any, ...]], directory: Path
) -> Answers:
    def work(node_id: str, version: str, *program: str) -> Process:
        build = {"AMP_BUILD_VERSION": version}
        worker = processes.ampd("worker", "--node-id", node_id, *program, database=url, env=build)
        worker.says("registered")
        return worker

    for node_id, version in {"live-1": "v2", "live-2": "v2", "live-3": "v1"}.items():
        work(node_id, version)
    work("stuck", "v2", "--watchdog", "2", "--", "sleep", "1000")
    assert work("failed", "v1", "--", "sh", "-c", "exit 7").wait() == 7
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
    rules.write_text(RULES.read_text().replace("interval: 2500ms", "interval: 1s"))  # like the scrapes here
    late: list[str] = []
    admin = free_port()
    processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{admin}", database=url)
    for number in range(ATTEMPTS):
        ports = {"amp": free_port(), "amp-sick": free_port(), "admin-amp": admin}
        exporters = [
            processes.ampd(
                *("exporter", "--web.listen-address", f"127.0.0.1:{ports[job]}", "--collector.workers", mode),
                database=url,
            )
            for job, mode in (("amp", "all"), ("amp-sick", "unhealthy"))
        ]
        for port in ports.values():
            eventually(partial(get, f"http://127.0.0.1:{port}/-/ready"))
        prometheus = Prometheus(processes, directory / f"prometheus-{number}", ports, rules=[rules])
        eventually(lambda prometheus=prometheus: prometheus.query(RESTARTING))  # type: ignore[misc]
        # A restart while the fleet becomes stable, which takes twenty seconds. The alert fires ten seconds later.
        assert restarted.stop() == 0
        restarted = work("live-4", "v2")
        eventually(lambda prometheus=prometheus: prometheus.query(FAILED) == {frozenset(): 2.0}, 90)  # type: ignore[misc]
        connection.execute(
            "UPDATE workers SET heartbeat_at = clock_timestamp() - interval '15 seconds' WHERE node_id = 'stale'"
        )
        time.sleep(3)  # Each exporter and each rule has processed that.
        answers = _look(prometheus, ports["amp"], connection)
        late = _late(answers)
        if not late:
            assert {row.state for row in answers.rows} == set(State)
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
            "extract(epoch FROM created_at)::float8, info->>'version', info ? 'stopped_at', "
            "info->>'failure', (info->>'exit_code')::float8, (info->>'watchdog_seconds')::float8, "
            "extract(epoch FROM clock_timestamp() - (info->>'progress_at')::timestamptz)::float8 FROM workers"
        )
    ]
    lines = [line for line in get(f"http://127.0.0.1:{port}/metrics").splitlines() if line[:1] != "#"]
    return Answers(prometheus, at, rows, len(lines))


def _late(answers: Answers) -> list[str]:
    """Return the reasons why these results are unusable: a scrape or a rule was late. This happens only on a busy
    machine.
    """
    late = [
        f"the heartbeat of {row.node_id} is {row.age} s old"
        for row in answers.rows
        if row.node_id[:4] == "live" and row.age > 2
    ]
    at = answers.at
    for expression in CALM:
        found = answers.query(expression)
        if found != {frozenset(): 2.0}:
            late.append(f"{expression}: {found}")
    if time.time() - at > SECONDS:
        late.append("these questions")
    return late


ATTEMPTS = 3
"""How often the test starts a new Prometheus, until no scrape and no rule was late."""

FAILED = 'count(ALERTS{alertname="AmpWorkerFailed", alertstate="firing"})'

RESTARTING = 'amp_worker_registered_timestamp_seconds{node_id="live-4"}'

EXPORTERS = 'up{job=~"amp.*"}'

CALM = [
    # Each second, both exporters were scraped in time and had a response of the metadata DB,
    f"count(count_over_time({EXPORTERS}[25s]) >= 24)",
    f"count(min_over_time({EXPORTERS}[25s]) == 1)",
    "count(min_over_time(amp_metadata_db_up[25s]) == 1)",
    # and neither the last scrape nor the rules' results are old. `stale` was reset to 15 s before.
    f"count(timestamp({EXPORTERS}) >= time() - 2)",
    "count(timestamp(job:amp_fleet_settled:max) >= time() - 2)",
]


Wanted = dict[frozenset[tuple[str, str]], Any]
"""Like a Vector; an age or a time is approximate."""

Expected = Callable[[Answers], Wanted]


def one(value: Callable[[Answers], Any]) -> Expected:
    """Expect one value, without labels."""
    return lambda answers: {frozenset(): value(answers)}


def each(states: tuple[str, ...], value: Callable[[Row], Any], *labels: str) -> Expected:
    """Expect one value per worker in some states, by its node id or by other labels."""
    names = labels or ("node_id",)
    return lambda answers: {
        labelled(**{name: getattr(row, name) for name in names}): value(row) for row in answers.of(*states)
    }


def by_version(answers: Answers) -> Wanted:
    versions = [row.version for row in answers.of("active", "stuck", "stale")]
    return {labelled(version=version): float(versions.count(version)) for version in set(versions)}


def something(answers: Answers) -> Wanted:
    """Expect any value, where the database has none: the duration of a query, for example."""
    del answers
    return {}


def nothing(answers: Answers) -> Wanted:
    del answers
    return {}


KNOWN = ("active", "stuck", "stale", "lost", "failed", "stopped")
BEATING = ("active", "stuck", "stale", "lost")
SILENT = ("stale", "lost")
UNHEALTHY = ("stuck", "stale", "lost", "failed")
DOWN = ("stale", "lost", "failed")
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


def within(answers: Answers, bound: float) -> Any:
    """A heartbeat whose age is close to a bound may have been on its other side at the scrape."""
    ages = [row.distance for row in answers.of(*BEATING)]
    least, most = (sum(age <= bound + off for age in ages) for off in (-SECONDS, SECONDS))
    return pytest.approx((least + most) / 2, abs=(most - least) / 2)


def buckets(answers: Answers) -> Wanted:
    return {labelled(le="+Inf" if bound == BUCKETS[-1] else f"{bound}"): within(answers, bound) for bound in BUCKETS}


def older(bound: float) -> Expected:
    def expected(answers: Answers) -> Wanted:
        young = within(answers, bound)
        return {frozenset(): pytest.approx(answers.count(*BEATING) - young.expected, abs=young.abs)}

    return expected


RANK = {"failed": 6.0, "lost": 5.0, "stale": 4.0, "stuck": 3.0, "active": 2.0, "stopped": 1.0}


def bounds(answers: Answers) -> Wanted:
    """The exporter's thresholds of the states."""
    del answers
    return {labelled(threshold="stale"): 5.0, labelled(threshold="lost"): 60.0}


def share_down(answers: Answers) -> Any:
    return pytest.approx(answers.count(*DOWN) / answers.count(*BEATING, "failed"))


def one_of_one(answers: Answers) -> Wanted:
    del answers
    return {labelled(text="1 of 1", up="1", all="1"): 1.0}


FLEET: dict[str, list[Expected]] = {
    "All workers": [one(lambda answers: len(answers.rows))],
    **{state.capitalize(): [in_state(state)] for state in State},
    "Share down": [one(share_down)],
    "Stranded jobs": [nothing],
    "Metadata DB": [one(lambda _: 1)],
    "Exporters": [one_of_one],
    "Firing alerts": [something],
    "Worst workers": [something, each(("stuck", *SILENT), age), each(UNHEALTHY, milliseconds("registered_at"))],
    "Heartbeat ages": [buckets],
    "Oldest heartbeat": [one(lambda answers: about(max(row.distance for row in answers.of(*BEATING)))), bounds],
    "Workers with an old heartbeat": [older(10), older(60), older(300), older(3600)],
    "Workers by state": [lambda answers: {labelled(state=state): answers.count(state) for state in State}],
    "Availability and worst state": [one(lambda _: 1), one(lambda _: 1), one(lambda _: 6)],
    "Unhealthy workers, state over time": [each(UNHEALTHY, lambda row: RANK[row.state])],
    "Longest silent workers, heartbeat age over time": [each(SILENT, age), bounds],
    "Workers by version": [by_version],
    "Restarts": [one(lambda _: pytest.approx(0.5, abs=0.5))],
    "Jobs by status": [nothing],
    "Stranded jobs by the state of their worker": [nothing],
    "Workers with the most stranded jobs": [nothing],
    "Workers, worst first (at most 500)": [something, each(BEATING, age), each(KNOWN, milliseconds("registered_at"))],
}

EXPORTER: dict[str, list[Expected]] = {
    "Metadata DB": [one(lambda _: 1)],
    "Exporters": [one_of_one],
    "Admin APIs": [one_of_one],
    "Web configuration": [one(lambda _: 1)],
    "Exporter's version": [lambda _: {labelled(version=build_info.version(os.environ)): 1.0}],
    "Availability": [one(lambda _: 1), one(lambda _: 1), one(lambda _: 1)],
    "Failed queries": [
        lambda _: {labelled(reason=reason): 0.0 for reason in ("unreachable", "refused", "schema", "timeout", "query")}
    ],
    "Query duration": [something, something, something],
    "Scrape duration": [something],
    "Replay lag": [nothing],
    "Queries": [one(lambda _: pytest.approx(60, rel=0.1))],
    "Rows and series": [one(lambda answers: len(answers.rows)), one(lambda answers: answers.lines)],
    "Requests to the Admin API": [something],
    "Errors of the Admin API": [something],
    "Latency of the Admin API": [something, something, something],
    "CPU": [something],
    "Memory": [something],
    "Open files": [something],
}

NEEDS_ALL = "Needs the exporter's --collector.workers=all"


ALERTS_OF_A_WORKER = {
    "stuck": ["AmpWorkerStuck"],
    "stale": ["AmpWorkerHeartbeatStale"],
    "lost": ["AmpWorkerHeartbeatStale", "AmpWorkerLost"],
    "failed": ["AmpWorkerFailed"],
}


def worker_expectations(row: Row) -> dict[str, list[Expected]]:
    """The expectations for the dashboard of one worker."""

    def present(known: bool, value: Any) -> list[Expected]:
        return [lambda _: {frozenset(): value} if known else {}]

    def text(value: object, **label: str) -> list[Expected]:
        return [lambda _: {labelled(**label): value}]

    beats = row.state in BEATING
    state = [*present(True, RANK[row.state])]
    reports = row.watchdog is not None
    progress_age = present(reports, about(row.progress_age or 0))
    firing = ALERTS_OF_A_WORKER.get(row.state, [])
    return {
        "State": state,
        "Failure": text(1.0, reason=row.failure) if row.failure else text(0.0, reason="none"),
        "Exit code": text(0.0, code="none") if row.exit_code is None else text(1.0, code=f"{row.exit_code:.0f}"),
        "Heartbeat age": present(beats, about(row.age)),
        "Progress age": progress_age,
        "Unfinished jobs": [nothing],
        "Firing alerts": [lambda _: {labelled(alertname=name, severity="warning"): 1.0 for name in firing}],
        "Version": text(float(row.version == "v2"), version=row.version),
        "Version of the fleet": text(4.0, version="v2"),
        "Last heartbeat": present(True, about_milliseconds(row.heartbeat_at)),
        "Started": present(True, about_milliseconds(row.registered_at)),
        "Stopped": present(row.stopped, about_milliseconds(row.heartbeat_at)),
        "Created": present(True, about_milliseconds(row.created_at)),
        "State over time": state,
        "Heartbeat age over time": [*present(beats, about(row.age)), bounds],
        "Progress age over time": [*progress_age, *present(reports, row.watchdog)],
        "Restarts": present(True, float(row.node_id == "live-4")),
        "Unfinished jobs over time": [nothing],
        "Build": [lambda _: {labelled(node_id=row.node_id, version=row.version): 1.0}],
    }


RECORDED: dict[str, Expected] = {
    "job:amp_exporters_up:sum": one(lambda _: 1),
    "job:amp_scrape_interval_seconds:max": one(lambda _: about(5)),
    "job:amp_metadata_db_up:max": one(lambda _: 1),
    "job:amp_fleet_settled:max": one(lambda _: 1),
    "job:amp_metadata_db_replay_lag_seconds:max": nothing,
    "job_node_id:amp_worker_silence_seconds:min": each(SILENT, distance),
    "job_node_id:amp_worker_ahead_seconds:max": lambda answers: {
        labelled(node_id=row.node_id): about(-row.age) for row in answers.rows if row.node_id == "future"
    },
    "job_node_id:amp_worker_failed:max": each(("failed",), one_),
    "job_node_id:amp_worker_stuck:max": each(("stuck",), one_),
    "job:amp_workers_down:count": one(lambda answers: answers.count(*DOWN)),
    "job:amp_workers_down:ratio": one(share_down),
    "job:amp_workers_unhealthy:max": one(lambda answers: answers.count(*UNHEALTHY)),
    "job:amp_workers:max": one(lambda answers: len(answers.rows)),
    **dict.fromkeys((record.STRANDED, record.NOT_PICKED_UP, record.JOBS_IN_ERROR, record.LAST_FATAL), nothing),
    "job:amp_workers_active:max": one(lambda answers: answers.count("active")),
    "job:amp_versions:count": one(lambda _: 2),
    "job:amp_threshold_difference_seconds:max": one(lambda _: 0),
}

ALERTING: dict[str, Expected] = {
    "AmpWatchdog": nothing,  # this fleet has no alert
    "AmpWorkerFailed": each(("failed",), one_),
    "AmpWorkerStuck": each(("stuck",), one_),
    "AmpJobsStranded": nothing,
    "AmpJobsNotPickedUp": nothing,
    "AmpJobsFailing": nothing,
    "AmpExporterReplicaDown": nothing,
    "AmpThresholdsDiffer": nothing,
    "AmpAdminApiDown": nothing,
    "AmpExporterDown": nothing,
    "AmpMetadataDbUnreachable": nothing,
    "AmpMetadataDbLagging": nothing,
    "AmpFleetUnsettled": nothing,
    "AmpNoActiveWorkers": nothing,
    "AmpFleetShareLost": one(share_down),
    "AmpWorkerHeartbeatStale": each(SILENT, distance),
    "AmpWorkerLost": each(("lost",), distance),
    "AmpWorkerRestarting": nothing,
    "AmpHeartbeatFromTheFuture": RECORDED["job_node_id:amp_worker_ahead_seconds:max"],
    "AmpVersionSkew": one(lambda _: 2),
    "AmpExporterSlow": nothing,
    "AmpExporterErrors": nothing,
}


def test_every_panel_is_expected() -> None:
    row = Row("w", 0, 0, 0, 0, "v1")
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
    _check(answers, "fleet", title, FLEET[title], job="amp", search="", state="> 0")


@pytest.mark.parametrize("title", FLEET)
def test_a_panel_of_the_fleet_where_only_unhealthy_workers_have_series(answers: Answers, title: str) -> None:
    """Its panels show the same, unless the description excludes that."""
    if NEEDS_ALL in _panel("fleet", title)["description"]:
        for query in _queries("fleet", title, job="amp-sick", search="", state="> 0"):
            found = {value for labels in answers.query(query) for name, value in labels if name == "node_id"}
            assert found <= {row.node_id for row in answers.of(*UNHEALTHY)}
    else:
        _check(answers, "fleet", title, FLEET[title], job="amp-sick", search="", state="> 0")


@pytest.mark.parametrize(
    ("search", "state", "wanted"),
    [
        ("live", "> 0", {"live-1", "live-2", "live-3", "live-4"}),
        ("", "> 4 <= 5", {"lost", "future"}),
        ("future", "> 4 <= 5", {"future"}),
        ("", "> 2 <= 3", {"stuck"}),
    ],
)
def test_the_table_of_workers_is_filtered(answers: Answers, search: str, state: str, wanted: set[str]) -> None:
    for query in _queries("fleet", "Workers, worst first (at most 500)", job="amp", search=search, state=state):
        assert {dict(labels)["node_id"] for labels in answers.query(query)} == wanted


@pytest.mark.parametrize("node_id", ["live-1", "live-3", "live-4", "stuck", "stale", "lost", "failed", "stopped"])
@pytest.mark.parametrize("title", worker_expectations(Row("w", 0, 0, 0, 0, "v1")))
def test_a_panel_of_one_worker(answers: Answers, title: str, node_id: str) -> None:
    (row,) = [row for row in answers.rows if row.node_id == node_id]
    _check(answers, "worker", title, worker_expectations(row)[title], job="amp", node_id=node_id)


@pytest.mark.parametrize("title", EXPORTER)
def test_a_panel_of_the_exporter(answers: Answers, title: str) -> None:
    _check(answers, "exporter", title, EXPORTER[title], job="amp")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_annotations_of_the_graphs(answers: Answers, name: str) -> None:
    (worker,) = [row for row in answers.rows if row.node_id == "lost"]
    for annotation in DASHBOARDS[name].get("annotations", {}).get("list", []):
        found = answers.query(_fill(annotation["expr"], job="amp", node_id="lost"))
        if (name, annotation["name"]) == ("worker", "Restarts"):
            assert found == {frozenset(): about_milliseconds(worker.registered_at)}
        elif annotation["name"] == "Restarts":
            assert all(0 < started < 1000 * answers.at for started in found.values())
            assert found
        else:
            assert all(1000 * (answers.at - 600) < began < 1000 * answers.at for began in found.values())
            assert {dict(labels)["alertname"] for labels in found} == {
                "exporter": set(),
                "fleet": {"AmpFleetShareLost"},
                "worker": {"AmpWorkerHeartbeatStale", "AmpWorkerLost"},
            }[name]


def test_the_variables_list_the_existing_values(answers: Answers) -> None:
    """`label_values(series, label)` is Grafana's function for the values of a label."""
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
    """Return the values without the labels that differ from checkout to checkout."""
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
    """Replace the variables of a dashboard, as Grafana does."""
    known = {"__range": "5m", "__rate_interval": "20s", "__interval": "5s"} | variables
    return re.sub(r"\$(\w+)", lambda match: known.get(match[1], match[0]), expr)
