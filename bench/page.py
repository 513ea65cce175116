"""What the fleet page costs: `.venv/bin/python -m bench.page`.

Fills a PostgreSQL of its own with workers, and requests the page: one after the other, while a read is shared and when
a new one is due, and from many browsers, each of which asks again after so long as the page says. How often the
workers were read is PostgreSQL's own count of scans.
"""

import argparse
import http.client
import os
import platform
import re
import statistics
import threading
import time

import psycopg

from bench.api import served
from bench.scrape import fill
from bench.servers import connect, postgres
from tests.processes import eventually

_REFRESH = re.compile(rb'data-refresh="(\d+)"')


def request(port: int, path: str) -> tuple[float, bytes]:
    """Return how many milliseconds a page took, and its body, compressed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    started = time.perf_counter()
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    body = response.read()
    taken = 1000 * (time.perf_counter() - started)
    connection.close()
    assert response.status == 200, body
    return taken, body


def refresh_milliseconds(port: int) -> int:
    """Return after how long the page is to be requested again."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/")
    found = _REFRESH.search(connection.getresponse().read())
    connection.close()
    assert found is not None
    return int(found[1])


def one_after_the_other(port: int, rounds: int) -> None:
    pages = {
        "/": "/",
        "/, by heartbeat": "/?sort=heartbeat",
        "/, by a glob": "/?node_id=*a*,*b*&sort=-uptime",
        "/, the last page": "/?page=999",
    }
    taken: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        time.sleep(refresh_milliseconds(port) / 1000)
        for name, path in ({"/, with the read": "/"} | pages).items():
            milliseconds, body = request(port, path)
            taken.setdefault(name, []).append(milliseconds)
            sizes[name] = len(body)
    for name, each in taken.items():
        print(f"| {name} | {statistics.median(each):.0f} | {max(each):.0f} | {sizes[name] / 1000:.1f} |")


def browsers(port: int, number: int, seconds: float) -> list[float]:
    """Return how many milliseconds each page took that so many browsers have requested."""
    taken: list[float] = []
    ends = time.monotonic() + seconds

    def browse() -> None:
        while time.monotonic() < ends:
            taken.append(request(port, "/")[0])
            time.sleep(5.0)

    threads = [threading.Thread(target=browse) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def scans(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'workers'").fetchone()
    assert row is not None
    return int(str(row[0]))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--browsers", type=int, nargs="*", default=[1, 50])
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    with postgres() as (server, _), connect(server) as connection:
        fill(connection, arguments.workers)
        with served(server.url) as api:
            print("| page | median, ms | slowest, ms | kB, gzip |\n| --- | ---: | ---: | ---: |")
            one_after_the_other(api.port, arguments.rounds)
        print("\n| browsers | pages | median, ms | slowest, ms | reads of the metadata DB |")
        print("| ---: | ---: | ---: | ---: | ---: |")
        for number in arguments.browsers:
            with served(server.url) as api:
                before = scans(connection)
                taken = browsers(api.port, number, arguments.seconds)
            # A session reports its counts at its end, if not before.
            eventually(lambda: scans(connection) > before)  # noqa: B023 - called at once
            middle, slowest = statistics.median(taken), max(taken)
            print(f"| {number} | {len(taken)} | {middle:.0f} | {slowest:.0f} | {scans(connection) - before} |")


if __name__ == "__main__":
    main()
