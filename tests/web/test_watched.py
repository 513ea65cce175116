"""What is read out of files, and what stays when that fails in a way that nobody foresaw."""

import logging
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from amp_workers.web.watched import Watched
from tests.web.servers import write


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "numbers"
    file.write_text("1")
    return file


def watched(file: Path, read: Callable[[], int]) -> Watched[int]:
    return Watched(read, lambda _: [file], LookupError)


def test_an_error_that_nobody_foresaw_keeps_the_old_value(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    numbers = watched(file, lambda: int(file.read_text()))
    file.write_text("hunter2")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert not numbers.look(tell=True)
    assert numbers.value == 1
    (line,) = caplog.messages
    assert line.startswith(f"{file}: a ValueError that nobody foresaw, in test_watched.py, line ")
    assert line.endswith("; what was read before stays")
    file.write_text("22")
    assert numbers.look(tell=True)
    assert numbers.value == 22
    file.write_text("hunter2")
    with caplog.at_level(logging.ERROR):
        assert not numbers.look(tell=True)
    assert caplog.messages.count(line) == 2, "what is wrong again is told again"


@pytest.mark.parametrize("ages", [0, 1], ids=["another file of the same age", "another age of the same file"])
def test_a_change_that_leaves_the_size_is_seen(file: Path, ages: int) -> None:
    numbers = watched(file, lambda: int(file.read_text()))
    before = file.stat()
    if ages == 0:
        write(file, "2")
    else:
        file.write_text("2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + ages))
    assert numbers.look(tell=False)
    assert numbers.value == 2


def test_what_changes_while_it_is_read_is_seen(file: Path) -> None:
    def read() -> int:
        found = int(file.read_text())
        if found == 1:
            file.write_text("22")
        return found

    assert watched(file, read).value == 22


def test_a_file_that_is_named_while_another_is_read_is_watched(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    second.write_text("x")
    reads = count(1)
    files = Watched(lambda: first if next(reads) == 1 else second, lambda each: [each], LookupError)
    assert files.value == second
    before = next(reads)
    assert not files.look(tell=False)
    assert next(reads) == before + 1
    second.write_text("xy")
    files.look(tell=False)
    assert next(reads) > before + 2, "it was not read again"


def test_the_same_mistake_after_the_file_of_before_is_told_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    numbers = watched(file, lambda: int(file.read_text()))
    kept = file.with_name("kept")
    for times in (1, 2):
        file.rename(kept)
        file.write_text("hunter2")
        assert not numbers.look(tell=True)
        assert len(caplog.messages) == times
        kept.rename(file)
        assert not numbers.look(tell=True)


def test_at_the_start_an_error_is_an_error(file: Path) -> None:
    file.write_text("x")
    with pytest.raises(ValueError, match="x"):
        watched(file, lambda: int(file.read_text()))
