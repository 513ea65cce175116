"""`ampd solo` from a user's point of view: start, failures, stop."""

import contextlib
import os
import re
import signal
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.admin.witness import witness
from tests.processes import Process, Processes, eventually, free_port, get, run

pytestmark = pytest.mark.slow

OPERATORS = {
    "PGPORT": "6432",
    "PGSERVICE": "nowhere",
    "PGTARGETSESSIONATTRS": "standby",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGOPTIONS": "-c no_such_setting=1",
    "PGHOSTADDR": "192.0.2.1",
    "AMP_METADATA_DB_URL_FILE": "/nowhere",
    "AMP_CONFIG_METADATA_DB__URL": "postgresql://192.0.2.1/elsewhere",
}
"""The environment of an operator who works with other databases. None of it applies to solo's database."""

RUNNING = "Amp worker management is running"


class Solo:
    """One `ampd solo`, with its own ports and data directory."""

    def __init__(self, processes: Processes, data: Path, workers: int = 2) -> None:
        self.admin, self.exporter = (f"127.0.0.1:{free_port()}" for _ in range(2))
        addresses = ["--admin.listen-address", self.admin, "--exporter.listen-address", self.exporter]
        arguments = ["--data-dir", str(data), "--workers", str(workers), *addresses]
        self.process: Process = processes.ampd("solo", *arguments, env=OPERATORS)

    def ampctl(self, *arguments: str) -> list[str]:
        with witness(int(self.admin.rpartition(":")[2])) as seen:
            return run("ampctl", "--admin-url", f"http://127.0.0.1:{seen}", *arguments).stdout.splitlines()

    def active(self) -> int:
        found = re.search(r'^amp_workers\{state="active"\} (\d+)', get(f"http://{self.exporter}/metrics"), re.M)
        assert found is not None
        return int(found[1])

    def child(self, word: str) -> psutil.Process:
        """Return the child whose command line contains a word."""

        def look() -> psutil.Process | None:
            with contextlib.suppress(psutil.Error):  # a child that ends while the test inspects it
                for process in psutil.Process(self.process.pid).children():
                    if process.status() != psutil.STATUS_ZOMBIE and word in " ".join(process.cmdline()):
                        return process
            return None

        return eventually(look)

    def has_other(self, word: str, pid: int) -> bool:
        """Whether the child whose command line contains a word has another pid."""
        return self.child(word).pid != pid


@pytest.fixture
def data(open_directory: Path, request: pytest.FixtureRequest) -> Path:
    return open_directory / f"solo-{abs(hash(request.node.name))}"


@pytest.fixture
def solo(processes: Processes, data: Path, tmp_path: Path) -> Solo:
    # The working directory has directories with the names of our folders.
    for name in ("worker", "admin"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported the wrong one')")
    started = Solo(processes, data)
    started.process.says(RUNNING, 60)
    return started


def assert_gone(family: list[psutil.Process]) -> None:
    assert not psutil.wait_procs(family, 30)[1]


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGHUP])
def test_it_shows_what_runs_and_stops_cleanly(solo: Solo, data: Path, signal_number: int) -> None:
    eventually(lambda: solo.active() == 2)
    assert [line.split()[0] for line in solo.ampctl("worker", "list")] == ["worker-01", "worker-02"]
    screen = solo.process.output
    for shown in (f"http://{solo.admin}/workers", f"http://{solo.exporter}/metrics", str(data), "worker list"):
        assert shown in screen
    family = solo.process.descendants()
    assert len(family) >= 2 + 2 * 2 + 1
    solo.process.signal(signal_number)
    assert solo.process.wait() == 0
    assert_gone(family)
    assert "Traceback" not in solo.process.output
    assert "level=error" not in solo.process.output


def test_its_workers_are_recorded_as_stopped_and_are_listed_after_the_next_start(
    solo: Solo, processes: Processes, data: Path
) -> None:
    eventually(lambda: solo.active() == 2)
    family = solo.process.descendants()
    assert solo.process.stop() == 0
    assert_gone(family)
    again = Solo(processes, data, workers=1)
    again.process.says(RUNNING, 60)
    eventually(lambda: again.active() == 1)
    listed = again.ampctl("worker", "list", "--json")
    assert re.findall(r'"state": "(\w+)"', "\n".join(listed)) == ["active", "stopped"]


def test_a_killed_child_is_restarted_and_reported(solo: Solo) -> None:
    names = {"worker-01": "worker-01", "admin": "the Admin API", "exporter": "the exporter", "postgres": "PostgreSQL"}
    for victim, name in names.items():
        child = solo.child(victim)
        child.kill()
        solo.process.says(f"{name} was killed by SIGKILL; restarting it in ")
        eventually(partial(solo.has_other, victim, child.pid))
        eventually(lambda: solo.active() == 2 and len(solo.ampctl("worker", "list")) == 2)
    family = solo.process.descendants()
    assert solo.process.stop() == 0
    assert_gone(family)


def test_solo_stops_although_a_child_was_killed_just_before(solo: Solo) -> None:
    for victim in ("postgres", "admin", "worker-01"):
        solo.child(victim).kill()
    family = solo.process.descendants()
    assert solo.process.stop() == 0
    assert_gone(family)


def test_the_data_survives_kill_9_of_every_process(solo: Solo, processes: Processes, data: Path) -> None:
    eventually(lambda: solo.active() == 2)
    created = [line for line in solo.ampctl("worker", "get", "worker-01") if line.startswith("Created")]
    for process in [psutil.Process(solo.process.pid), *solo.process.descendants()]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with its parent
            process.kill()
    solo.process.wait()
    again = Solo(processes, data)
    again.process.says(RUNNING, 60)
    eventually(lambda: again.active() == 2)
    assert created[0] in again.ampctl("worker", "get", "worker-01")


def test_a_second_solo_on_the_same_data_is_refused_until_the_first_is_killed(
    solo: Solo, processes: Processes, data: Path
) -> None:
    second = Solo(processes, data)
    assert second.process.wait() == 1
    assert second.process.output == (
        f"Error: another ampd solo (pid {solo.process.pid}) uses the data directory {data}; "
        "stop it, or choose another with --data-dir\n"
    )
    eventually(lambda: solo.active() == 2)
    family = solo.process.descendants()
    solo.process.signal(signal.SIGKILL)
    solo.process.wait()
    again = Solo(processes, data)
    again.process.says(RUNNING, 60)
    assert_gone(family)
    eventually(lambda: again.active() == 2)


@pytest.mark.parametrize("busy", [["admin"], ["exporter"], ["admin", "exporter"]], ids="-".join)
def test_ports_in_use_are_named_with_free_ones_to_type(
    processes: Processes, data: Path, busy: list[str], solo_port: Callable[[], str]
) -> None:
    servers = ("admin", "exporter")
    addresses = {name: solo_port() if name in busy else f"127.0.0.1:{free_port()}" for name in servers}
    options = [f"--{name}.listen-address={address}" for name, address in addresses.items()]
    process = processes.ampd("solo", "--data-dir", str(data), *options)
    assert process.wait() == 1
    reasons, _, others = process.output.removeprefix("Error: ").partition(". Choose another address: ")
    assert reasons.split("; ") == [f"cannot listen on {addresses[name]}: Address already in use" for name in busy]
    assert not data.exists()
    typed = others.split()
    assert typed[::2] == [f"--{name}.listen-address" for name in busy]
    for address, name in zip(typed[1::2], busy, strict=True):
        host, _, port = address.partition(":")
        assert host == "127.0.0.1"
        assert int(port) > int(addresses[name].partition(":")[2])


def test_one_address_for_two_servers_is_refused(processes: Processes, data: Path) -> None:
    both = f"127.0.0.1:{free_port()}"
    addresses = ["--admin.listen-address", both, "--exporter.listen-address", both]
    process = processes.ampd("solo", "--data-dir", str(data), *addresses)
    assert process.wait() == 2
    assert f"--admin.listen-address and --exporter.listen-address are both {both}." in process.output
    assert not data.exists()


@pytest.fixture
def solo_port(processes: Processes) -> Callable[[], str]:
    """The address of a server that does not belong to solo."""

    def listen() -> str:
        port = free_port()
        processes.start("python", "-m", "http.server", "--bind", "127.0.0.1", str(port))
        eventually(lambda: get(f"http://127.0.0.1:{port}/"))
        return f"127.0.0.1:{port}"

    return listen


@pytest.mark.parametrize("directory", ["/proc/amp", "/dev/null/amp"])
def test_a_directory_that_cannot_be_written_is_refused(processes: Processes, directory: str) -> None:
    refused = Solo(processes, Path(directory)).process
    assert refused.wait() == 1
    assert refused.output.startswith(f"Error: cannot write the data directory {directory}: ")
    assert refused.output.endswith("; choose another with --data-dir\n")
    assert refused.output.count("\n") == 1


def test_no_directory_above_its_data_changes_its_mode(processes: Processes, open_directory: Path) -> None:
    """Below a closed home, as root: PostgreSQL's account cannot enter the home, and must not get access."""
    home = open_directory / "closed"
    home.mkdir(mode=0o700)
    solo = Solo(processes, home / "project" / ".amp", workers=1)
    solo.process.says(RUNNING, 60)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    place = (home / "project" / ".amp" / "postgres").resolve()
    assert solo.process.stop() == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    if os.geteuid() == 0:
        assert f"the metadata DB is kept in {place} instead" in solo.process.output
        run("rm", "-r", str(place))
