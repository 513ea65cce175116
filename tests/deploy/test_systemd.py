"""The units of deploy/systemd, checked without a running systemd."""

import re
import subprocess
import sys
from pathlib import Path

import click
import psycopg
import pytest

from amp_workers.ampd.cli import ampd
from tests.deploy.confined import service
from tests.processes import BIN, ROOT, Processes, clean_environment, eventually, free_port, get, run, tool

UNITS = {path.name: path for path in sorted((ROOT / "deploy" / "systemd").glob("*.service"))}
DROP_INS = sorted((ROOT / "deploy" / "systemd" / "drop-ins").glob("*.conf"))

each_unit = pytest.mark.parametrize("unit", UNITS)


def installed(directory: Path, unit: str, drop_in: Path | None = None) -> Path:
    """Return a unit as it would be installed, with commands that exist on this machine."""
    path = directory / unit.replace("@", "@worker-01")
    path.write_text(UNITS[unit].read_text().replace("/opt/amp/bin", str(BIN)))
    if drop_in is not None:
        text = drop_in.read_text().replace("/opt/amp/bin", str(BIN)).replace("/opt/extract/bin/extract", "/bin/sh")
        (directory / f"{path.name}.d").mkdir()
        (directory / f"{path.name}.d" / "x.conf").write_text(text)
    return path


def unit_of(drop_in: Path) -> str:
    return next(unit for unit in UNITS if drop_in.name.startswith(re.split(r"[@.]", unit)[0]))


def test_there_is_a_unit_for_each_process() -> None:
    assert set(UNITS) == {"amp-worker@.service", "amp-admin.service", "amp-exporter.service"}


@each_unit
def test_systemd_accepts_the_unit(unit: str, tmp_path: Path) -> None:
    checked = run(tool("systemd-analyze"), "verify", "--man=no", str(installed(tmp_path, unit)))
    assert (checked.returncode, ours(checked.stderr)) == (0, [])


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.name)
def test_systemd_accepts_the_drop_in(drop_in: Path, tmp_path: Path) -> None:
    checked = run(tool("systemd-analyze"), "verify", "--man=no", str(installed(tmp_path, unit_of(drop_in), drop_in)))
    assert (checked.returncode, ours(checked.stderr)) == (0, [])


def test_an_unknown_setting_is_detected(tmp_path: Path) -> None:
    path = installed(tmp_path, "amp-admin.service")
    path.write_text(path.read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in "".join(ours(run(tool("systemd-analyze"), "verify", "--man=no", str(path)).stderr))


def ours(complaints: str) -> list[str]:
    """Return systemd's messages about these units, without those about the machine's own units."""
    return [line for line in complaints.splitlines() if "amp-" in line]


@pytest.mark.parametrize("path", [*UNITS.values(), *DROP_INS], ids=lambda path: path.name)
def test_ampd_accepts_the_command(path: Path) -> None:
    (command,) = [value for value in service(path).get("ExecStart", []) if value]
    program, subcommand, *arguments = command.replace("%i", "worker-01").replace("%d", "/run/credentials").split()
    assert program == "/opt/amp/bin/ampd"
    with click.Context(ampd) as parent:
        understood = ampd.get_command(parent, subcommand)
        assert understood is not None
        arguments = ["--metadata-db-url=postgresql://localhost/amp", *arguments]
        context = understood.make_context(subcommand, arguments, parent=parent)
    if subcommand == "worker":
        promised = (context.params["watchdog"], context.params["on_stuck"])
        assert promised == ((60, "kill") if "watchdog" in path.name else (None, None))


@each_unit
def test_the_exposure_is_ok(unit: str, tmp_path: Path) -> None:
    path = installed(tmp_path, unit)
    checked = run(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=20", str(path))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (level, word) = re.findall(r"Overall exposure level for \S+: ([\d.]+) (\w+)", checked.stdout)[0]
    assert float(level) < 2.0
    assert word == "OK"


@each_unit
def test_the_unit_holds_no_secret_and_its_command_is_ours(unit: str) -> None:
    settings = service(UNITS[unit])
    (command,) = settings["ExecStart"]
    assert command.split()[:2] == ["/opt/amp/bin/ampd", re.split(r"[@.-]", unit)[1]]
    assert settings["Environment"] == ["AMP_METADATA_DB_URL_FILE=%d/metadata-db-url"]
    assert settings["Type"] == ["notify"]
    assert "postgresql://" not in UNITS[unit].read_text()


@pytest.mark.slow
@each_unit
def test_the_process_does_nothing_that_the_unit_forbids(
    unit: str, processes: Processes, database: str, tmp_path: Path
) -> None:
    """The system call filter, the address families, no writable code, no written files, and no privileges."""
    tool("systemd-analyze")
    credential = tmp_path / "metadata-db-url"
    credential.write_text(database)
    credential.chmod(0o440)
    confined = [sys.executable, str(ROOT / "tests" / "deploy" / "confined.py"), str(UNITS[unit]), str(BIN / "ampd")]
    # A pipe, because a log file would be a written file.
    through = ["sh", "-c", 'exec "$@" 2>&1 | cat', "sh", *confined]
    environment = {"AMP_METADATA_DB_URL_FILE": str(credential), "HOME": "/"}
    if "worker" in unit:
        program = "import ctypes, subprocess; subprocess.run(['true'], check=True); print('worked')"
        worker = processes.start(
            *through, "worker", "--node-id=w", "--", sys.executable, "-c", program, env=environment
        )
        assert worker.wait(60) == 0
        assert "worked" in worker.output
        with psycopg.connect(database) as connection:
            assert connection.execute("SELECT info ? 'stopped_at' FROM workers").fetchone() == (True,)
        return
    port = free_port()
    server = processes.start(*through, unit[4:-8], f"--web.listen-address=localhost:{port}", env=environment)
    eventually(lambda: get(f"http://localhost:{port}/-/ready"), 60)
    assert get(f"http://localhost:{port}/metrics")
    ampd = [child for child in server.descendants() if "ampd" in child.cmdline()[0]]
    ampd[0].terminate()
    server.wait()
    assert " stopped" in server.output


@pytest.mark.parametrize("name", ["HUP", "INT", "PIPE", "TERM"])
def test_a_program_that_a_clean_signal_ends_is_no_failure(name: str, processes: Processes, database: str) -> None:
    """Otherwise `systemctl stop` would leave a failed unit."""
    (drop_in,) = [path for path in DROP_INS if path.name == "amp-worker-program.conf"]
    (clean,) = service(drop_in)["SuccessExitStatus"]
    worker = processes.ampd("worker", "--node-id=w", "--", "sh", "-c", f"kill -{name} $$", database=database)
    assert str(worker.wait()) in clean.split()


def test_a_program_that_hangs_is_ended_and_restarted(processes: Processes, database: str) -> None:
    """Its exit code is not one that systemd considers clean."""
    (program,) = [path for path in DROP_INS if path.name == "amp-worker-program.conf"]
    settings = service(program)
    assert settings["Restart"] == ["on-failure"]
    promise = ("--watchdog=0.5", "--on-stuck=kill")
    worker = processes.ampd("worker", "--node-id=w", *promise, "--", "sleep", "1000", database=database)
    assert str(worker.wait(60)) not in {"0", *settings["SuccessExitStatus"][0].split()}


@pytest.mark.parametrize(
    "breaks",
    [
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)",
        "import os; os.setuid(os.getuid())",
        "import os; os.chroot('/')",
    ],
)
def test_the_filter_blocks_what_the_unit_forbids(breaks: str) -> None:
    tool("systemd-analyze")
    confined = [sys.executable, str(ROOT / "tests" / "deploy" / "confined.py"), str(UNITS["amp-admin.service"])]
    ended = subprocess.run([*confined, sys.executable, "-c", breaks], env=clean_environment(), check=False, timeout=60)
    assert ended.returncode == -31  # SIGSYS
