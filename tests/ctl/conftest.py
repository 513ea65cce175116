"""One fleet behind two servers: the real Admin API, and the small server of contract_api.py."""

import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.admin.witness import witness
from tests.conftest import fresh_database
from tests.ctl.contract_api import ContractApi, a_worker, serving
from tests.ctl.terminal import Terminal
from tests.processes import Processes, clean_environment, eventually, free_port, get

DAY = 86_400

THRESHOLDS = ("--stale-after", f"{5 * DAY}", "--lost-after", f"{10 * DAY}", "--forget-after", f"{20 * DAY}")
"""High thresholds: during the tests, each worker keeps its state, and its age in days and hours."""

FLEET = [
    # node id, state, age in hours, version
    ("beta", "stale", 6 * 24, "v1.10.0"),
    ("delta", "forgotten", 60 * 24, "unknown"),
    ("epsilon-10", "active", 26, "v1.9.0"),
    ("epsilon-9", "active", 25, "v1.10.0"),
    ("gamma", "lost", 12 * 24, "v1.9.0"),
    ("zeta", "stopped", 30, "v1.9.0"),
]
"""The workers registered three days and two hours before their last heartbeats."""


@pytest.fixture(scope="session")
def admin_url(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`ampd admin` over the fleet."""
    processes = Processes(tmp_path_factory.mktemp("fleet"), forks_ampd=True)
    with fresh_database(postgres) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for node_id, state, hours, version in FLEET:
                connection.execute(
                    "INSERT INTO workers (node_id, created_at, registered_at, heartbeat_at, info) "
                    "SELECT %s, beat - interval '9 days', beat - interval '3 days 2 hours', beat, jsonb_strip_nulls("
                    "jsonb_build_object('version', %s::text, 'stopped_at', CASE WHEN %s THEN beat END)) "
                    "FROM (SELECT now() - make_interval(hours => %s, secs => 1)) AS _ (beat)",
                    (node_id, None if version == "unknown" else version, state == "stopped", hours),
                )
        port = free_port()
        processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{port}", *THRESHOLDS, database=url)
        eventually(lambda: get(f"http://127.0.0.1:{port}/-/ready"))
        with witness(port) as seen:
            yield f"http://127.0.0.1:{seen}"
        processes.end()


def fleet() -> ContractApi:
    """The same fleet, for the small server."""

    def moment(hours: float) -> str:
        return (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")

    return ContractApi(
        [
            a_worker(
                node_id,
                state,
                hours * 3600.0 + 1,
                version=version,
                created_at=moment(hours + 9 * 24),
                registered_at=moment(hours + 3 * 24 + 2),
                heartbeat_at=moment(hours),
            )
            for node_id, state, hours, version in FLEET
        ]
    )


@pytest.fixture
def contract_api() -> Iterator[ContractApi]:
    with serving(fleet()) as api:
        yield api


@pytest.fixture(params=["admin", "contract"])
def api_url(request: pytest.FixtureRequest) -> str:
    """The URL of each of the two servers."""
    if request.param == "admin":
        url: str = request.getfixturevalue("admin_url")
        return url
    api: ContractApi = request.getfixturevalue("contract_api")
    return api.url


PATIENT = """\
#!{python}
import amp_workers.ctl.node_ids
from amp_workers.ctl.cli import main
amp_workers.ctl.node_ids.COMPLETION_SECONDS = amp_workers.ctl.node_ids.SUGGESTION_SECONDS = 30.0
main()
"""


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `ampctl` has long timeouts for node ids: a second is short on a busy machine."""
    program = tmp_path_factory.mktemp("patient") / "ampctl"
    program.write_text(PATIENT.format(python=sys.executable))
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{clean_environment()['PATH']}"}


StartTerminal = Callable[..., Terminal]


@pytest.fixture
def terminal() -> Iterator[StartTerminal]:
    """Start a command in a terminal: `terminal("ampctl", "worker", "list", url=…)`."""
    started: list[Terminal] = []

    def start(*command: str, url: str, env: Mapping[str, str] | None = None, **size: int) -> Terminal:
        started.append(Terminal(*command, env={"AMP_ADMIN_URL": url} | dict(env or {}), **size))
        return started[-1]

    yield start
    for each in started:
        each.end()
