"""How far a worker embedded in a Python program stays active: `.venv/bin/python -m bench.embedded`.

Runs programs that use the interpreter in their own ways inside `with Worker(…)`, on a PostgreSQL of the benchmark's
own, and asks that every 10 ms how old the heartbeat is. A call that holds the GIL is libc's usleep, called through
ctypes without releasing it: exact, and to other threads the same as any C code that computes for so long. The last
row is the same program as a child of `ampd worker`.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from amp_workers.worker import Worker
from bench.servers import postgres

STALE_SECONDS = 5.0

AGE = """
SELECT extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 FROM workers WHERE NOT info ? 'stopped_at'
"""

_hold_gil = ctypes.PyDLL(None).usleep


def wait(seconds: float, _: float) -> None:
    time.sleep(seconds)


def compute(seconds: float, threads: float) -> None:
    def busy() -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            sum(number * number for number in range(1000))

    running = [threading.Thread(target=busy) for _ in range(int(threads))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def hold_once(seconds: float, hold: float) -> None:
    """With pauses of changing length, so that the calls begin at any point between two heartbeats."""
    ends, pause = time.monotonic() + seconds, 1.0
    while time.monotonic() < ends:
        _hold_gil(int(hold * 1e6))
        time.sleep(pause)
        pause = 1.0 + (pause + 0.37) % 1.0


def hold_again_and_again(seconds: float, hold: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        _hold_gil(int(hold * 1e6))


def parse(seconds: float, megabytes: float) -> None:
    entry = json.dumps({"block": 1234567, "hash": "0x" + "ab" * 32, "logs": list(range(20))})
    text = f"[{','.join([entry] * int(megabytes * 1e6 / len(entry)))}]"
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        json.loads(text)


PROGRAMS: list[tuple[str, Callable[[float, float], None], float]] = [
    ("waits", wait, 0),
    ("computes in Python, 1 thread", compute, 1),
    ("computes in Python, 4 threads", compute, 4),
    *((f"holds the GIL for {hold:g} s, then pauses", hold_once, hold) for hold in (1, 2, 3, 3.5, 4, 5)),
    *(
        (f"holds the GIL for {hold:g} s, again and again", hold_again_and_again, hold)
        for hold in (0.1, 0.25, 0.5, 0.75, 1, 2)
    ),
    *((f"json.loads of {megabytes} MB, again and again", parse, megabytes) for megabytes in (10, 100)),
]


def ages(command: list[str], url: str) -> list[float]:
    """Run a command to its end; return the heartbeat's ages, in seconds, while its worker ran."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE workers")
        seen = []
        program = subprocess.Popen(command, env=os.environ | {"AMP_METADATA_DB_URL": url, "AMP_LOG": "error"})
        while program.poll() is None:
            row = connection.execute(AGE).fetchone()
            if row is not None:
                seen.append(row[0])
            time.sleep(0.01)
    return seen


def show(what: str, seen: list[float]) -> None:
    oldest = max(seen)
    print(f"| {what} | {statistics.median(seen):.1f} | {oldest:.1f} | {'stale' if oldest > STALE_SECONDS else ''} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="how long each program works")
    parser.add_argument("--program", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--embedded", action=argparse.BooleanOptionalAction, default=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.program is not None:
        _, work, parameter = PROGRAMS[arguments.program]
        if not arguments.embedded:
            work(arguments.seconds, parameter)
            return
        with Worker(node_id="w", metadata_db_url=os.environ["AMP_METADATA_DB_URL"]):
            work(arguments.seconds, parameter)
        return
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print("| the program | heartbeat's age, s: median | oldest | |\n| --- | ---: | ---: | --- |", flush=True)
    itself = [sys.executable, "-m", "bench.embedded", f"--seconds={arguments.seconds}"]
    with postgres() as (server, _):
        for number, (what, _, _) in enumerate(PROGRAMS):
            show(what, ages([*itself, f"--program={number}"], server.url))
        number, what = next((n, what) for n, (what, work, hold) in enumerate(PROGRAMS) if "2 s, again" in what)
        parent = [str(Path(sys.executable).with_name("ampd")), "worker", "--node-id=w", "--"]
        show(
            f"{what}, under `ampd worker --`",
            ages([*parent, *itself, f"--program={number}", "--no-embedded"], server.url),
        )


if __name__ == "__main__":
    main()
