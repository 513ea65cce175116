"""The metadata DB becomes unavailable, or refuses the password: every process logs it once and recovers on its own."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from amp_workers.metadata_db import MetadataDbUrl
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.metadata_db.migrate import upgrade
from tests.admin.witness import witness
from tests.clusters import own_postgres
from tests.e2e.passwords import ask_for_password
from tests.processes import Process, Processes, command_lines, eventually, free_port, get

pytestmark = pytest.mark.slow

PASSWORD = "hunter2-planted"


class Fleet:
    """A worker, an Admin API and an exporter on one metadata DB."""

    def __init__(self, processes: Processes, url: str) -> None:
        self.admin, self.exporter = free_port(), free_port()
        self.processes: list[Process] = [
            processes.ampd("worker", "--node-id=w", database=url),
            processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{self.admin}", database=url),
            processes.ampd("exporter", "--web.listen-address", f"127.0.0.1:{self.exporter}", database=url),
        ]
        for port in (self.admin, self.exporter):
            eventually(partial(get, f"http://127.0.0.1:{port}/-/healthy"))

    def works(self) -> bool:
        with witness(self.admin) as seen:
            assert '"state":"active"' in get(f"http://127.0.0.1:{seen}/workers/w")
        metrics = get(f"http://127.0.0.1:{self.exporter}/metrics")
        return "amp_metadata_db_up 1.0" in metrics and 'amp_workers{state="active"} 1.0' in metrics

    def is_down(self) -> bool:
        """Whether both servers report the outage of the metadata DB, and are healthy themselves."""
        metrics = get(f"http://127.0.0.1:{self.exporter}/metrics")
        assert "amp_metadata_db_up 0.0" in metrics
        assert "\namp_worker" not in metrics
        with witness(self.admin) as seen, pytest.raises(OSError, match="503"):
            get(f"http://127.0.0.1:{seen}/workers")
        return all(get(f"http://127.0.0.1:{port}/-/healthy") for port in (self.admin, self.exporter))

    def has_logged_one_outage(self) -> bool:
        """Whether each process has logged the start and the end of the outage; once more if a response was late."""
        return all(2 <= count <= 4 for count in self.warnings())

    def has_warned(self, times: int) -> bool:
        return min(self.warnings()) >= times

    def warnings(self) -> list[int]:
        return [process.output.count("level=warn") for process in self.processes]


@pytest.fixture
def server(open_directory: Path) -> Iterator[EmbeddedPostgres]:
    with own_postgres(open_directory / "outage") as started:
        yield started


def test_an_outage_while_serving(processes: Processes, server: EmbeddedPostgres) -> None:
    fleet = Fleet(processes, server.url)
    eventually(fleet.works)
    for outage in (1, 2):
        server.stop(5)
        eventually(fleet.is_down)
        for _ in range(3):
            assert fleet.is_down()
        server.launch()
        eventually(fleet.works)
        fleet.processes[0].says("'w' sends heartbeats again after", times=outage)
        # One line for the start and one for the end of each outage, and not one per heartbeat or request. A worker may
        # first see a server that shuts down, and then one that does not listen. On a busy machine, one response may be
        # late. A process may have answered before its line is read here.
        eventually(partial(fleet.has_warned, 2 * outage))
        assert max(fleet.warnings()) <= 3 * outage + 2, fleet.warnings()
    assert all(process.popen.poll() is None for process in fleet.processes)


def test_an_outage_at_the_start(processes: Processes, server: EmbeddedPostgres) -> None:
    server.stop(5)
    fleet = Fleet(processes, server.url)
    eventually(fleet.is_down)
    fleet.processes[0].says("cannot be reached")
    server.launch()
    eventually(fleet.works)
    eventually(fleet.has_logged_one_outage)


def test_not_migrated(processes: Processes, empty_database: str) -> None:
    fleet = Fleet(processes, empty_database)
    eventually(fleet.is_down)
    for process in fleet.processes:
        process.says("run `ampd migrate`")
    upgrade(MetadataDbUrl.parse(empty_database))
    eventually(fleet.works)
    eventually(fleet.has_logged_one_outage)


def test_the_password_is_refused_and_shown_nowhere(
    processes: Processes, server: EmbeddedPostgres, tmp_path: Path
) -> None:
    url = server.url.replace("postgres@", f"amp:{PASSWORD}@")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE amp LOGIN PASSWORD 'another'")
        connection.execute("GRANT ALL ON workers TO amp")
        ask_for_password(server, connection, "amp")
        fleet = Fleet(processes, url)
        eventually(fleet.is_down)
        for process in fleet.processes:
            process.says("password authentication failed for user")
        shown = command_lines(*(pid for p in fleet.processes for pid in (p.pid, *(c.pid for c in p.descendants()))))
        connection.execute(f"ALTER ROLE amp PASSWORD '{PASSWORD}'".encode())
    eventually(fleet.works)
    bodies = [get(f"http://127.0.0.1:{port}/metrics") for port in (fleet.admin, fleet.exporter)]
    for process in fleet.processes:
        assert process.stop() == 0
    for text in (shown, *bodies, *(process.output for process in fleet.processes)):
        assert PASSWORD not in text
    eventually(fleet.has_logged_one_outage)
