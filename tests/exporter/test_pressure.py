"""The exporter while the metadata DB does not respond: requests do not pile up, and recovery is immediate."""

import os
import re
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.clusters import own_postgres
from tests.processes import Processes, eventually, free_port, frozen, get
from tests.relay import Relay, socket_of

pytestmark = pytest.mark.slow

TIMEOUT = 3.0
PATIENT = 30.0
"""The timeout of a scrape that must return current values, however busy the machine is."""

CLIENTS = 20
SCRAPES = 40


class Exporter:
    """A running exporter, and clients that scrape it."""

    def __init__(self, processes: Processes, url: str) -> None:
        self.port = free_port()
        listen = ("--web.listen-address", f"127.0.0.1:{self.port}")
        # The rows keep one heartbeat for the whole test.
        self._process = processes.ampd("exporter", *listen, "--stale-after=3600", "--lost-after=3600", database=url)
        eventually(lambda: get(f"http://127.0.0.1:{self.port}/-/healthy"))
        self.serving = psutil.Process(self._process.pid)

    def scrape(self, timeout: float) -> str:
        """Return the response of a scrape. Any status but 200 is an error."""
        header = {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)}
        return get(f"http://127.0.0.1:{self.port}/metrics", header, timeout=timeout + 30)

    def scrape_by_many(self, meanwhile: Callable[[], None] = lambda: None) -> list[str]:
        """Scrape with 20 clients at once. `meanwhile` is called repeatedly until they are done."""
        with ThreadPoolExecutor(CLIENTS) as clients:
            running = [clients.submit(self.scrape, TIMEOUT) for _ in range(SCRAPES)]
            while not all(scrape.done() for scrape in running):
                meanwhile()
                time.sleep(0.1)
        return [scrape.result() for scrape in running]

    def workers(self) -> int:
        """Return the number of active workers in one scrape; -1 if the metadata DB is down."""
        text = self.scrape(PATIENT)
        if "amp_metadata_db_up 1.0" not in text:
            return -1
        found = re.search(r'^amp_workers\{state="active"\} (\d+)', text, re.M)
        assert found is not None
        return int(found[1])

    def clients(self) -> int:
        """Return the number of established connections."""
        established = (each for each in self.serving.net_connections("tcp") if each.status == psutil.CONN_ESTABLISHED)
        return sum(each.laddr[1] == self.port for each in established)

    def threads(self) -> int:
        return int(self.serving.num_threads())

    def memory(self) -> int:
        return int(self.serving.memory_info().rss)


def assert_down(texts: list[str]) -> None:
    assert len(texts) == SCRAPES
    for text in texts:
        assert "amp_metadata_db_up 0.0" in text
        assert "\namp_worker" not in text


def assert_down_in_time(exporter: Exporter, meanwhile: Callable[[], None]) -> None:
    """Assert that scrapes end within their own timeout, while a scrape with a much longer timeout still waits."""
    with socket.create_connection(("127.0.0.1", exporter.port)) as patient:
        header = f"X-Prometheus-Scrape-Timeout-Seconds: {20 * TIMEOUT}"
        patient.sendall(f"GET /metrics HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        assert_down(exporter.scrape_by_many(meanwhile))
        assert not select.select([patient], [], [], 0)[0], "the scrape with the longer timeout was answered first"


@pytest.fixture
def server(open_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of the test's own, with three workers."""
    with own_postgres(open_directory / "pressed") as started:
        with psycopg.connect(started.url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) "
                "SELECT 'w' || g, now(), now(), now() FROM generate_series(1, 3) g"
            )
        yield started


@pytest.fixture
def exporter(processes: Processes, server: EmbeddedPostgres) -> Exporter:
    made = Exporter(processes, server.url)
    made.scrape_by_many()  # by now, all threads that it ever needs have started
    assert made.workers() == 3
    return made


def sessions(connection: psycopg.Connection[tuple[int]]) -> int:
    found = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ampd exporter'")
    row = found.fetchone()
    assert row is not None
    return row[0]


def test_a_locked_table(exporter: Exporter, server: EmbeddedPostgres) -> None:
    """Scrapes report the metadata DB as down. The first scrape after the lock reports the workers again."""
    most = 0
    memory, threads = exporter.memory(), exporter.threads()
    with (
        psycopg.connect(server.url) as locker,
        psycopg.connect(server.url, autocommit=True) as watcher,
    ):

        def watch() -> None:
            nonlocal most
            most = max(most, sessions(watcher))

        locker.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
        for _ in range(3):
            assert_down_in_time(exporter, watch)
        locker.rollback()
        assert exporter.workers() == 3
        assert 1 <= most <= 2
        # The queries were cancelled, and do not wait for the lock.
        waiting = watcher.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
        assert waiting == (0,)
    # A thread per client may have started since. A thread per scrape would be a leak.
    eventually(lambda: exporter.threads() <= threads + CLIENTS)
    assert exporter.memory() < memory + 10_000_000


def test_a_server_that_is_stopped(exporter: Exporter, server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    with frozen(server.pid):
        assert_down(exporter.scrape_by_many())
    eventually(lambda: exporter.workers() == 3)
    with psycopg.connect(server.url, autocommit=True) as watcher:
        eventually(lambda: sessions(watcher) <= 2)


def test_a_server_that_is_killed_and_started_again(exporter: Exporter, server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: server.poll() is not None)
    assert_down(exporter.scrape_by_many())
    server.start(lambda _: None)
    assert exporter.workers() == 3


def test_a_server_that_is_restarted_between_two_scrapes(exporter: Exporter, server: EmbeddedPostgres) -> None:
    server.stop(5)
    server.start(lambda _: None)
    assert exporter.workers() == 3


def test_a_network_that_drops_all_packets(processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as hole:
        exporter = Exporter(processes, f"postgresql://amp@127.0.0.1:{hole.getsockname()[1]}/amp")
        assert_down(exporter.scrape_by_many())
        before = exporter.threads()
        assert_down(exporter.scrape_by_many())
        eventually(lambda: exporter.threads() < before + SCRAPES)


def test_a_network_that_fails_during_a_scrape(processes: Processes, server: EmbeddedPostgres) -> None:
    relay = Relay(socket_of(server))
    try:
        exporter = Exporter(processes, f"postgresql://postgres@127.0.0.1:{relay.port}/postgres")
        assert exporter.workers() == 3
        relay.open.clear()
        assert_down(exporter.scrape_by_many())
        relay.open.set()
        eventually(lambda: exporter.workers() == 3)
        with psycopg.connect(server.url, autocommit=True) as watcher:
            eventually(lambda: sessions(watcher) <= 2)
    finally:
        relay.close()


def test_the_connection_limit_is_reached(processes: Processes, server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN CONNECTION LIMIT 0")
        connection.execute("GRANT SELECT ON workers TO reader")
        exporter = Exporter(processes, server.url.replace("postgres@", "reader@"))
        assert_down(exporter.scrape_by_many())
        assert 'amp_exporter_scrape_errors_total{reason="refused"}' in exporter.scrape(PATIENT)
        connection.execute("ALTER ROLE reader CONNECTION LIMIT 2")
        assert exporter.workers() == 3


def test_scrapes_at_the_same_moment_share_one_query(exporter: Exporter, server: EmbeddedPostgres) -> None:
    def queries() -> int:
        found = re.search(r"^amp_exporter_query_duration_seconds_count (\d+)", exporter.scrape(PATIENT), re.M)
        assert found is not None
        return int(found[1])

    before = queries()
    with psycopg.connect(server.url) as locker:
        locker.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(CLIENTS) as clients:
            running = [clients.submit(exporter.scrape, PATIENT) for _ in range(CLIENTS)]
            eventually(lambda: exporter.clients() == CLIENTS)
            time.sleep(1)  # until each request is read, and waits
            locker.rollback()
        assert all("amp_metadata_db_up 1.0" in scrape.result() for scrape in running)
    # Requests that were read before the lock was released share one query. The last scrape has its own.
    assert queries() - before <= CLIENTS // 2


def test_a_long_scrape_is_not_ended_by_a_short_one(exporter: Exporter, server: EmbeddedPostgres) -> None:
    with (
        psycopg.connect(server.url) as locker,
        psycopg.connect(server.url, autocommit=True) as watcher,
        ThreadPoolExecutor(2) as clients,
    ):
        locker.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")

        def waits() -> list[tuple[object]]:
            """Return the start of a query of the exporter that waits for the table."""
            return watcher.execute(
                "SELECT query_start FROM pg_stat_activity "
                "WHERE application_name = 'ampd exporter' AND wait_event_type = 'Lock'"
            ).fetchall()

        short = clients.submit(exporter.scrape, 6.0)
        first = eventually(waits)
        long = clients.submit(exporter.scrape, 50.0)
        assert "amp_metadata_db_up 0.0" in short.result()
        eventually(lambda: waits() not in ([], first))  # otherwise the query of the short scrape might serve both
        locker.rollback()
        assert "amp_metadata_db_up 1.0" in long.result()


def test_health_responds_while_all_scrapes_wait(exporter: Exporter, server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url) as locker:
        locker.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")

        def ask() -> None:
            assert get(f"http://127.0.0.1:{exporter.port}/-/healthy") == "OK\n"

        exporter.scrape_by_many(ask)


def test_a_restart_changes_no_value(processes: Processes, exporter: Exporter, server: EmbeddedPostgres) -> None:
    def values(text: str) -> set[str]:
        kept = (line for line in text.splitlines() if line.startswith("amp_worker"))
        return {line for line in kept if "age_seconds" not in line}

    with psycopg.connect(server.url, autocommit=True) as connection:
        for change in (
            "UPDATE workers SET info = '{\"version\": \"by hand\"}' WHERE node_id = 'w1'",
            "DELETE FROM workers WHERE node_id = 'w2'",
            "UPDATE workers SET info = '{\"stopped_at\": \"2999-01-01T00:00:00+00:00\"}' WHERE node_id = 'w3'",
            "INSERT INTO workers VALUES (DEFAULT, 'w4', now(), '{}', now(), now())",
        ):
            connection.execute(change.encode())
            assert values(exporter.scrape(PATIENT)) == values(Exporter(processes, server.url).scrape(PATIENT))


def test_a_rotating_fleet_does_not_grow_the_response(exporter: Exporter, server: EmbeddedPostgres) -> None:
    """10,000 node ids in a day, of which 100 are active at any time, as with pods that are replaced."""

    def lines() -> int:
        return exporter.scrape(PATIENT).count("\namp_worker_info")

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("TRUNCATE workers")
        for day in range(2, 0, -1):
            connection.execute(
                "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) "
                "SELECT 'pod-' || %(day)s || '-' || g, now() - make_interval(days => %(day)s * 2), now(), now() "
                "FROM generate_series(1, 10000) g",
                {"day": day},
            )
        connection.execute(
            "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) "
            "SELECT 'pod-0-' || g, now(), now(), now() FROM generate_series(1, 100) g"
        )
    assert lines() == 100
    text = exporter.scrape(PATIENT)
    assert 'amp_workers{state="forgotten"} 20000.0' in text
    assert 'amp_workers{state="active"} 100.0' in text
    assert psutil.pid_exists(exporter.serving.pid)
