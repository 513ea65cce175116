"""The URL of the metadata DB from a file, such as a credential of systemd or a mounted secret."""

from pathlib import Path

import pytest

from tests.processes import Processes, run

AWAY = "postgresql://u:hunter2@127.0.0.1:1/d"


@pytest.fixture
def credential(tmp_path: Path) -> Path:
    """A file with the mode of a systemd credential whose access list allows a service's user to read it."""
    path = tmp_path / "metadata-db-url"
    path.write_text(f"{AWAY}\n")
    path.chmod(0o440)
    return path


@pytest.mark.slow
def test_the_url_is_read_from_a_file(empty_database: str, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"\n{empty_database}\n")
    done = run("ampd", "migrate", "--metadata-db-url-file", str(file))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_may_name_the_file(forked: Processes, credential: Path) -> None:
    done = forked.ampd("migrate", "--timeout=0", env={"AMP_METADATA_DB_URL_FILE": str(credential)})
    assert done.wait() == 1
    assert "postgresql://u@127.0.0.1:1/d: the metadata DB cannot be reached" in done.output
    assert "hunter2" not in done.output


def test_a_flag_with_the_url_takes_precedence_over_the_file(forked: Processes, credential: Path) -> None:
    other = "postgresql://u@127.0.0.1:1/other"
    done = forked.ampd(
        "migrate", "--timeout=0", "--metadata-db-url", other, env={"AMP_METADATA_DB_URL_FILE": str(credential)}
    )
    assert done.wait() == 1
    assert "/other: " in done.output


@pytest.mark.parametrize("name", ["AMP_METADATA_DB_URL", "AMP_CONFIG_METADATA_DB__URL"])
def test_a_file_and_a_url_in_the_environment_are_wrong_usage(forked: Processes, credential: Path, name: str) -> None:
    done = forked.ampd("migrate", "--metadata-db-url-file", str(credential), env={name: AWAY})
    assert done.wait() == 2
    assert name in done.output
    assert "hunter2" not in done.output


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"", "not a postgresql:// URL"),
        (b"hunter2", "not a postgresql:// URL"),
        (b"postgresql://u:hunter2%zz@h/d", "libpq cannot read it"),
        (b"postgresql://u:hunter2\xff@h/d", "not UTF-8 text"),
        (b"\xef\xbb\xbfpostgresql://u:hunter2@h/d", "UTF-8 byte order mark"),
        ("postgresql://u:hunter2@h/d".encode("utf-16"), "UTF-16 byte order mark"),
    ],
)
def test_an_unusable_file_is_wrong_usage_and_not_quoted(
    forked: Processes, tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    done = forked.ampd("migrate", "--metadata-db-url-file", str(file))
    assert done.wait() == 2
    assert says in done.output
    assert (str(file) if content is not None else "--metadata-db-url-file") in done.output
    assert "hunter2" not in done.output


@pytest.mark.parametrize(
    ("value", "says"),
    [(AWAY, "the value is a URL, not the path of a file"), ("host=127.0.0.1 password=hunter2", "cannot read the file")],
)
def test_a_url_in_place_of_a_file_is_not_shown(forked: Processes, value: str, says: str) -> None:
    done = forked.ampd("migrate", env={"AMP_METADATA_DB_URL_FILE": value})
    assert done.wait() == 2
    assert "AMP_METADATA_DB_URL_FILE" in done.output
    assert says in " ".join(done.output.split())
    assert "hunter2" not in done.output
    assert "127.0.0.1" not in done.output


def test_a_program_does_not_get_the_path_of_the_file(processes: Processes, database: str, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(database)
    environment = {"AMP_METADATA_DB_URL_FILE": str(file), "NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "1000000"}
    worker = processes.ampd("worker", "--node-id=w", "--", "env", env=environment)
    assert worker.wait() == 0
    assert "AMP_NODE_ID=w" in worker.output
    # The program's notification socket is the worker's, not the service manager's.
    for hidden in ("AMP_METADATA_DB_URL_FILE", "@nobody", "WATCHDOG_USEC"):
        assert hidden not in worker.output


def test_a_pipe_is_read_once(processes: Processes, database: str) -> None:
    worker = processes.start("bash", "-c", f"ampd worker --node-id=w --metadata-db-url-file <(echo '{database}')")
    worker.says("registered as 'w'")
