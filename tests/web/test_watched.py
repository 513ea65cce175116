"""Settings from files: when they are reloaded, and what happens after a failure."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from amp_workers.web.config.watched import ReadFile, Watched
from tests.web.servers import reasons, write


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "numbers"
    file.write_text("1")
    return file


class Number(Watched):
    """A number in a file. then: called after the file has been read."""

    value = 0

    def __init__(self, file: Path, then: Callable[[], object] = lambda: None) -> None:
        def read(read_file: ReadFile) -> None:
            text = read_file(file).decode()
            then()
            self.value = int(text)

        super().__init__(read)


def test_an_unexpected_error_keeps_the_old_value(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    numbers = Number(file)
    file.write_text("hunter2")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert not numbers.reload()
    assert numbers.value == 1
    (reason,) = reasons(caplog)
    assert re.fullmatch(rf"{file}: unexpected ValueError in test_watched\.py, line \d+", reason)
    file.write_text("22")
    assert numbers.reload()
    assert numbers.value == 22
    file.write_text("hunter2")
    with caplog.at_level(logging.WARNING):
        assert not numbers.reload()
    assert reasons(caplog) == [reason] * 2, "a new failure is logged again"


@pytest.mark.parametrize("ages", [0, 1], ids=["another file of the same age", "another age of the same file"])
def test_a_change_that_leaves_the_size_is_seen(file: Path, ages: int) -> None:
    numbers = Number(file)
    before = file.stat()
    if ages == 0:
        write(file, "2")
    else:
        file.write_text("2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + ages))
    assert numbers.reload()
    assert numbers.value == 2


def test_a_change_while_a_file_is_read_is_seen(file: Path) -> None:
    numbers = Number(file, lambda: file.write_text("22") if file.read_text() == "1" else None)
    assert numbers.value == 1
    assert numbers.reload()
    assert numbers.value == 22
    assert not numbers.reload()


def test_the_files_of_the_latest_value_are_watched(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text("2")
    second.write_text("x")
    found: list[bytes] = []
    names = Watched(lambda read_file: found.append(read_file(tmp_path / read_file(first).decode())))
    assert found == [b"x"]
    second.write_text("xy")
    assert names.reload()
    assert found == [b"x", b"xy"]


def test_the_same_mistake_after_a_good_file_is_logged_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    numbers = Number(file)
    kept = file.with_name("kept")
    for times in (1, 2):
        file.rename(kept)
        file.write_text("hunter2")
        assert not numbers.reload()
        assert len(reasons(caplog)) == times
        kept.rename(file)
        assert numbers.reload()
        assert caplog.messages.count("configuration reloaded") == times, "at the level of the failure"


def test_an_error_at_the_start_is_raised(file: Path) -> None:
    file.write_text("x")
    with pytest.raises(ValueError, match="x"):
        Number(file)
