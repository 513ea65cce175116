"""What the Admin API costs, beside psql: `.venv/bin/python -m bench.api`.

Fills a PostgreSQL of its own with workers that all send a heartbeat between two answers. The list is requested in turn:
ours, ours compressed, and `psql` printing the same rows as JSON over the same Unix socket, once as PostgreSQL writes
its values and once in the form that ours have. Each figure is the median over the rounds; the ratios are those
within a round. Then single workers are requested over persistent connections, while the server has one core.
"""

import argparse
import http.client
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import psutil

from bench.scrape import fill
from bench.servers import connect, postgres
from tests.processes import eventually, free_port

CLIENTS_AT_ONCE = 32

PLAIN = """
SELECT json_agg(worker) FROM (
    SELECT node_id,
           CASE WHEN info ? 'stopped_at' THEN 'stopped' WHEN heartbeat_at >= now() - interval '5 s' THEN 'active'
                WHEN heartbeat_at >= now() - interval '60 s' THEN 'stale' ELSE 'lost' END AS state,
           extract(epoch FROM now() - heartbeat_at) AS heartbeat_age_seconds,
           created_at, registered_at, heartbeat_at, info
    FROM workers ORDER BY node_id COLLATE "C"
) worker
"""
"""The query that one would type: with PostgreSQL's own form of a timestamp, and `info` as it is stored."""

SAME = """
SELECT json_agg(worker) FROM (
    SELECT node_id,
           CASE WHEN info ? 'stopped_at' THEN 'stopped' WHEN heartbeat_at >= now() - interval '5 s' THEN 'active'
                WHEN heartbeat_at >= now() - interval '60 s' THEN 'stale' ELSE 'lost' END AS state,
           extract(epoch FROM now() - heartbeat_at) AS heartbeat_age_seconds,
           to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS created_at,
           to_char(registered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS registered_at,
           to_char(heartbeat_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS heartbeat_at,
           json_build_object('version', info->>'version', 'commit_sha', info->>'commit_sha',
                             'commit_timestamp', info->>'commit_timestamp', 'build_date', info->>'build_date') AS info
    FROM workers ORDER BY node_id COLLATE "C"
) worker
"""
"""The fields and the form that the Admin API has them in."""


class Api:
    """A running Admin API, and a connection to it that stays."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path: str, *, gzip: bool = False) -> bytes:
        self._connection.request("GET", path, headers={"Accept-Encoding": "gzip"} if gzip else {})
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return body


@contextmanager
def served(url: str) -> Iterator[Api]:
    """Run `ampd admin` for as long as it is needed."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("ampd")), "admin", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=os.environ | {"AMP_METADATA_DB_URL": url, "AMP_LOG": "error"})
    try:
        eventually(lambda: Api(port, process).get("/-/ready"), 60)
        yield Api(port, process)
    finally:
        process.terminate()
        process.wait()


def lists(workers: int, rounds: int) -> None:
    """Print what a list of all workers costs."""
    with postgres() as (server, programs), connect(server) as connection, served(server.url) as api:
        fill(connection, workers)

        def psql(query: str) -> bytes:
            command = [str(programs / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-c", query]
            return subprocess.run([*command, server.url], check=True, capture_output=True).stdout

        ways: dict[str, Callable[[], bytes]] = {
            "GET /workers": lambda: api.get("/workers"),
            "GET /workers, gzip": lambda: api.get("/workers", gzip=True),
            "psql, json_agg": lambda: psql(PLAIN),
            "psql, json_agg of the same form": lambda: psql(SAME),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        size = {}
        for number in range(rounds + 2):
            for name, ask in ways.items():
                connection.execute("UPDATE workers SET heartbeat_at = clock_timestamp()")
                started = time.perf_counter()
                size[name] = len(ask())
                if number > 1:  # the first two warm up: a statement is prepared when it comes again
                    seconds[name].append(time.perf_counter() - started)
            connection.execute("VACUUM workers")
    for name, taken in seconds.items():
        against = (
            statistics.median(own / its for own, its in zip(taken, seconds[psql], strict=True))
            for psql in ("psql, json_agg", "psql, json_agg of the same form")
        )
        ratios = " | ".join(f"{ratio:.2f}" for ratio in against)
        print(f"| {workers:,} | {name} | {1000 * statistics.median(taken):.0f} | {ratios} | {size[name] / 1e6:.1f} |")


COUNT = """
SELECT CASE WHEN info ? 'stopped_at' THEN 'stopped' WHEN heartbeat_at >= now() - interval '5 s' THEN 'active'
            WHEN heartbeat_at >= now() - interval '60 s' THEN 'stale' ELSE 'lost' END AS state,
       info->>'version' AS version, count(*), min(heartbeat_at)
FROM workers GROUP BY 1, 2
"""
"""What somebody would type to count a fleet."""


def counts(workers: int, rounds: int) -> None:
    """Print what the counts of the whole fleet cost, for one client and for many at once."""
    with postgres() as (server, programs), connect(server) as connection, served(server.url) as api:
        fill(connection, workers)
        clients = [Api(api.port, api.process) for _ in range(CLIENTS_AT_ONCE)]

        def psql() -> None:
            command = [str(programs / "psql"), "--no-psqlrc", "--quiet", "-c", COUNT, server.url]
            subprocess.run(command, check=True, capture_output=True)

        def at_once() -> None:
            threads = [threading.Thread(target=client.get, args=("/fleet",)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        ways: dict[str, Callable[[], object]] = {
            "GET /fleet": lambda: api.get("/fleet"),
            f"GET /fleet, {CLIENTS_AT_ONCE} clients at once": at_once,
            "psql, count": psql,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 2):
            for name, ask in ways.items():
                connection.execute("UPDATE workers SET heartbeat_at = clock_timestamp()")
                started = time.perf_counter()
                ask()
                if number > 1:
                    seconds[name].append(time.perf_counter() - started)
            connection.execute("VACUUM workers")
    for name, taken in seconds.items():
        ratio = statistics.median(own / its for own, its in zip(taken, seconds["psql, count"], strict=True))
        print(f"| {workers:,} | {name} | {1000 * statistics.median(taken):.0f} | {ratio:.2f} |")


def single(workers: int, clients: int, seconds: float) -> None:
    """Print how many requests for one worker a server with one core answers per second."""
    with postgres() as (server, _), connect(server) as connection, served(server.url) as api:
        fill(connection, workers)
        node_ids = [str(row[0]) for row in connection.execute("SELECT node_id FROM workers")]
        family = [psutil.Process(api.process.pid), *psutil.Process(api.process.pid).children(recursive=True)]
        cores = sorted(os.sched_getaffinity(0))
        for process in family:
            for its_thread in process.threads():
                os.sched_setaffinity(its_thread.id, cores[:1])
        taken: list[float] = []
        api.get("/workers/" + node_ids[0])
        ends = time.perf_counter() + seconds

        def ask(number: int) -> None:
            client, own = Api(api.port, api.process), []
            for node_id in cycle(node_ids[number::clients]):
                started = time.perf_counter()
                if started > ends:
                    break
                client.get(f"/workers/{node_id}")
                own.append(time.perf_counter() - started)
            taken.extend(own)

        before = sum(sum(process.cpu_times()[:2]) for process in family)
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cpu = sum(sum(process.cpu_times()[:2]) for process in family) - before
    cuts = statistics.quantiles(taken, n=100)
    rate, each = len(taken) / seconds, 1000 * cpu / len(taken)
    print(f"| {clients} | {rate:,.0f} | {1000 * cuts[49]:.1f} | {1000 * cuts[98]:.1f} | {each:.2f} |")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[10_000])
    parser.add_argument("--counted", type=int, nargs="*", default=[100_000], help="workers of GET /fleet")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4, 8])
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print("| workers | what | ms | ÷ psql | ÷ psql, same form | MB |\n| ---: | --- | ---: | ---: | ---: | ---: |")
    for workers in arguments.workers:
        lists(workers, arguments.rounds)
    print("\n| workers | what | ms | ÷ psql |\n| ---: | --- | ---: | ---: |")
    for workers in arguments.counted:
        counts(workers, arguments.rounds)
    print(
        "\n| clients | requests/s | median, ms | p99, ms | CPU of a request, ms |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    for clients in arguments.clients:
        single(10_000, clients, arguments.seconds)


if __name__ == "__main__":
    main()
