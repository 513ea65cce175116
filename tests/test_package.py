"""What is installed: one top-level package, complete, beside any modules of a user's own."""

import json
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import click
import pytest

import amp_workers
from tests.processes import ROOT, Processes, eventually, run

PACKAGE = "amp_workers"
STAMP = f"{PACKAGE}/worker/build_stamp.json"

EMBEDS = """
import sys
from amp_workers import FencedOut, NodeIdTaken, Worker

import admin, ctl, web, worker
assert worker.MINE and web.MINE and admin.MINE and ctl.MINE

with Worker(node_id="embedded", metadata_db_url=sys.argv[1]):
    print("registered")
"""


@dataclass(frozen=True)
class Built:
    """A wheel of a clone, and a wheel of the source distribution of that clone."""

    commit: str
    sdist: Path
    wheel: Path
    wheel_of_sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("built")
    clone, unpacked = directory / "clone", directory / "unpacked"
    assert run("git", "clone", "--quiet", str(ROOT), str(clone)).returncode == 0
    sdist = _build("sdist", clone, directory / "sdist")
    unpacked.mkdir()
    assert run("tar", "-xf", str(sdist), "-C", str(unpacked)).returncode == 0
    (source,) = unpacked.iterdir()
    assert not (source / ".git").exists()
    return Built(
        commit=run("git", "rev-parse", "HEAD", cwd=clone).stdout.strip(),
        sdist=sdist,
        wheel=_build("wheel", clone, directory / "wheel"),
        wheel_of_sdist=_build("wheel", source, directory / "wheel-of-sdist"),
    )


def _build(target: str, source: Path, directory: Path) -> Path:
    done = run("python", "-m", "hatchling", "build", "-t", target, "-d", str(directory), cwd=source)
    assert done.returncode == 0, done.stderr
    assert not (ROOT / STAMP).exists()
    (made,) = directory.iterdir()
    return made


def committed() -> set[str]:
    """The files that git has in the rooms that are installed, and those of the package itself, by their installed
    names."""
    rooms = [link.name for link in (ROOT / PACKAGE).iterdir() if link.is_symlink()]
    listed = run("git", "ls-files", *rooms, f"{PACKAGE}/*.py", cwd=ROOT).stdout.splitlines()
    return {name if name.startswith(f"{PACKAGE}/") else f"{PACKAGE}/{name}" for name in listed}


def test_a_wheel_has_every_committed_file_in_one_package_and_nothing_else(built: Built) -> None:
    for wheel in (built.wheel, built.wheel_of_sdist):
        names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        assert names == committed() | {STAMP}


def test_a_source_distribution_has_every_committed_file_of_the_package(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    assert {name for name in names if name.startswith(f"{PACKAGE}/")} == committed() | {STAMP}
    assert names >= {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "build_stamp.py"}


def test_a_wheel_carries_the_commit_that_it_was_built_from(built: Built) -> None:
    for wheel in (built.wheel, built.wheel_of_sdist):
        info = json.loads(zipfile.ZipFile(wheel).read(STAMP))
        assert info["commit_sha"] == built.commit
        assert re.fullmatch(r"v\d+\.\d+\.\d+-\d+-g[0-9a-f]{8}", info["version"])
        for key in ("commit_timestamp", "build_date"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info[key])


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment that has the wheel, and of this environment the dependencies alone."""
    environment = tmp_path_factory.mktemp("installed")
    assert run("python", "-m", "venv", "--without-pip", str(environment)).returncode == 0
    python = environment / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(built.wheel)]
    pip = run("python", "-m", "pip", *install, env={"PYTHONWARNINGS": ""})  # pip's own warnings are not ours
    assert pip.returncode == 0, pip.stderr
    (packages,) = environment.glob("lib/python*/site-packages")
    # Path files of a directory that a path file names are not read: the editable install stays invisible.
    (packages / "dependencies.pth").write_text(f"{Path(click.__file__).parents[1]}\n")
    return python.parent


@pytest.fixture
def users_directory(tmp_path: Path) -> Path:
    """A directory with modules of a user's own, whose names are those of the project's folders."""
    for name in ("worker.py", "web.py", "ctl.py", "ampd.py", "exporter.py", "metadata_db.py", "admin/__init__.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("MINE = True\n")
    return tmp_path


def test_it_works_beside_a_users_own_modules_of_the_same_names(
    installed: Path, users_directory: Path, processes: Processes, database: str
) -> None:
    (users_directory / "extract.py").write_text(EMBEDS)
    environment = {"AMP_METADATA_DB_URL": database, "PYTHONPATH": str(users_directory)}

    origin = run(str(installed / "python"), "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", cwd=users_directory)
    assert origin.stdout.startswith(str(installed.parent))

    embedded = run(str(installed / "python"), "extract.py", database, cwd=users_directory)
    assert (embedded.returncode, embedded.stdout) == (0, "registered\n"), embedded.stderr

    worker = processes.start(
        str(installed / "ampd"), "worker", "--node-id=w", "--", "echo", "it runs", cwd=users_directory, env=environment
    )
    assert worker.wait() == 0, worker.output
    assert "it runs" in worker.output

    for command in (["ampd", "--version"], ["ampctl", "--help"], ["ampctl", "worker", "list", "--help"]):
        done = run(str(installed / command[0]), *command[1:], cwd=users_directory, env=environment)
        assert done.returncode == 0, done.stderr


def test_a_fleet_of_the_wheel_runs_from_a_directory_with_such_modules(
    installed: Path, users_directory: Path, processes: Processes, unused_port: int, database: str
) -> None:
    environment = {"AMP_METADATA_DB_URL": database, "PYTHONPATH": str(users_directory)}
    admin = processes.start(
        str(installed / "ampd"),
        *("admin", f"--web.listen-address=127.0.0.1:{unused_port}"),
        cwd=users_directory,
        env=environment,
    )
    ampctl = [str(installed / "ampctl"), f"--admin-url=http://127.0.0.1:{unused_port}", "worker", "list"]

    def look() -> bool:
        listed = run(*ampctl, cwd=users_directory, env=environment)
        assert (listed.returncode, listed.stdout) == (0, "No workers found\n"), listed.stderr + admin.output
        return True

    eventually(look)


def test_one_base_class_catches_every_error_of_the_public_api() -> None:
    errors = {name: getattr(amp_workers, name) for name in amp_workers.__all__ if name != "Worker"}
    assert {name for name, error in errors.items() if not issubclass(error, amp_workers.AmpError)} == set()
    with pytest.raises(amp_workers.AmpError):
        amp_workers.Worker(node_id="1-worker", metadata_db_url="postgresql://localhost/amp")
    with pytest.raises(amp_workers.AmpError):
        amp_workers.Worker(node_id="w", metadata_db_url="localhost")
