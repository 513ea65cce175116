"""The metadata DB's password changes while the fleet runs, in a secret that Kubernetes mounts."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.clusters import own_postgres
from tests.e2e.passwords import ask_for_password
from tests.processes import Process, Processes, eventually, free_port, get


@pytest.fixture
def server(open_directory: Path) -> Iterator[EmbeddedPostgres]:
    with own_postgres(open_directory / "rotation") as started:
        yield started


class Secret:
    """A mounted secret: `url` is a link to `..data/url`, and `..data` is a link that a rename replaces."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._versions = 0
        self.path = directory / "url"
        self.path.symlink_to("..data/url")

    def replace(self, content: str) -> None:
        self._versions += 1
        version = self._directory / f"..version{self._versions}"
        version.mkdir()
        (version / "url").write_text(content)
        link = self._directory / "..data_new"
        link.symlink_to(version.name)
        os.replace(link, self._directory / "..data")  # noqa: PTH105 - the atomic rename, as Kubernetes does it

    def remove(self) -> None:
        (self._directory / "..data").unlink()


@pytest.mark.slow
def test_a_password_that_changes_needs_no_restart(
    processes: Processes, server: EmbeddedPostgres, tmp_path: Path
) -> None:
    secret = Secret(tmp_path)
    secret.replace(server.url.replace("postgres@", "amp:first@") + "\n")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE amp LOGIN PASSWORD 'first'")
        connection.execute("GRANT ALL ON workers TO amp")
        ask_for_password(server, connection, "amp")
        admin, exporter = free_port(), free_port()
        env = {"AMP_METADATA_DB_URL_FILE": f"{secret.path}\n"}
        fleet: list[Process] = [
            processes.ampd("worker", "--node-id=w", env=env),
            processes.ampd("admin", f"--web.listen-address=127.0.0.1:{admin}", env=env),
            processes.ampd("exporter", f"--web.listen-address=127.0.0.1:{exporter}", env=env),
        ]

        def works() -> bool:
            metrics = get(f"http://127.0.0.1:{exporter}/metrics")
            assert '"state":"active"' in get(f"http://127.0.0.1:{admin}/workers/w")
            return 'amp_workers{state="active"} 1.0' in metrics

        def end_sessions() -> None:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'amp'")

        eventually(works)
        # While the secret is replaced, it is first absent, then half written: the sessions reconnect with the old one.
        secret.remove()
        end_sessions()
        eventually(works)
        secret.replace("postgresql://amp:sec")
        end_sessions()
        eventually(works)

        connection.execute("ALTER ROLE amp PASSWORD 'second'")
        end_sessions()
        fleet[0].says("authentication failed")
        secret.replace(server.url.replace("postgres@", "amp:second@") + "\n")
        eventually(works)
        end_sessions()
        eventually(works)
    for process in fleet:
        process.says("read the metadata DB's URL again from")
        assert process.stop() == 0
        assert process.output.count("No such file or directory; the previous URL stays in use") <= 1
