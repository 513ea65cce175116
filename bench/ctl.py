"""What a call of `ampctl` costs, side by side: `.venv/bin/python -m bench.ctl`.

Runs each command to its end in turn, round by round, against `ampd admin` on a PostgreSQL of the benchmark's own. The
least that a client in Python with Click and http.client can take is a Python that imports them and does nothing.
"""

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench.scrape import fill
from bench.servers import connect, postgres
from tests.processes import BIN, ROOT, Processes, clean_environment, eventually, free_port, get, tool

PYTHON = str(BIN / "python")
AMPCTL = str(BIN / "ampctl")

LEAST = "python -c 'import click, http.client, json'"


def commands(url: str, workers: int) -> dict[str, list[str]]:
    """Each row's name and command."""
    completing = ["env", "_AMPCTL_COMPLETE=bash_complete", "COMP_WORDS=ampctl worker inspect worker-1", AMPCTL]
    few: dict[str, list[str]] = {
        "ampctl worker list": [AMPCTL, "worker", "list"],
        "ampctl worker list --json": [AMPCTL, "worker", "list", "--json"],
        "ampctl worker list --wide": [AMPCTL, "worker", "list", "--wide"],
    }
    curl = {"curl": [tool("curl"), "-s", f"{url}/workers"]}
    if workers > 100:
        return {"ampctl worker list --limit 10": [AMPCTL, "worker", "list", "--limit", "10"]} | few | curl
    others = {
        "ampctl worker check": [AMPCTL, "worker", "check", "--max-age", "1d"],
        "ampctl worker list --help": [AMPCTL, "worker", "list", "--help"],
        "the Tab key after a node id's beginning": completing,
        "python, and nothing else": [PYTHON, "-c", "pass"],
    }
    return few | others | curl


def measure(url: str, workers: int, rounds: int) -> None:
    """Print the rows of one fleet."""
    environment = clean_environment() | {"AMP_ADMIN_URL": url}
    all_of_them = {LEAST: [PYTHON, "-c", "import click, http.client, json"]} | commands(url, workers)
    seconds: dict[str, list[float]] = {name: [] for name in all_of_them}
    for number in range(rounds + 1):
        for name, command in all_of_them.items():
            started = time.perf_counter()
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            if number:  # the first round writes byte code and fills caches
                seconds[name].append(time.perf_counter() - started)
    for name, each in seconds.items():
        ratio = statistics.median(ours / least for ours, least in zip(each, seconds[LEAST], strict=True))
        print(f"| {workers:,} | {name} | {statistics.median(each) * 1000:.0f} | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[10, 10_000], metavar="N")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    subprocess.run([ROOT / "tests/tools/fetch"], check=True)
    os.environ["PATH"] = f"{ROOT / '.tools/bin'}:{os.environ['PATH']}"
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; ", end="")
    print(f"medians of {arguments.rounds} rounds\n\n| workers | what | ms | ÷ imports |\n| ---: | --- | ---: | ---: |")
    with postgres() as (server, _), connect(server) as connection, tempfile.TemporaryDirectory() as directory:
        processes = Processes(Path(directory))
        try:
            port = free_port()
            processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{port}", database=server.url)
            eventually(lambda: get(f"http://127.0.0.1:{port}/-/ready"), 30)
            for workers in arguments.workers:
                fill(connection, workers)
                measure(f"http://127.0.0.1:{port}", workers, arguments.rounds)
        finally:
            processes.end()


if __name__ == "__main__":
    main()
