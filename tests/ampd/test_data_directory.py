import os
from pathlib import Path

from amp_workers.ampd.data_directory import data_directory


def test_the_lock_file_names_only_its_current_holder(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("12345678901\n")
    with data_directory(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
