"""The reason of an error depends on its SQLSTATE and on whether a server responded, in any language."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from amp_workers.metadata_db import MetadataDbError, MetadataDbUrl, Reader, check_schema
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.metadata_db.errors import REASONS
from tests.metadata_db.test_fleet import read
from tests.pgbouncer import start_pgbouncer
from tests.processes import Processes
from tests.secure_postgres import DEBIANS, SecurePostgres, secure_postgres

Sql = Callable[..., list[Any]]


def reader(url: str) -> Reader:
    return Reader(MetadataDbUrl.parse(url), "a reader", connections=1, statement_timeout=5)


def error_of(url: str) -> MetadataDbError:
    with pytest.raises(MetadataDbError) as error:
        reader(url).query(check_schema, 5)
    assert "\n" not in str(error.value)
    return error.value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sqlstate", "reason"),
    [
        ("08006", "unreachable"),
        ("08P01", "refused"),
        ("0A000", "query"),
        ("22P02", "query"),
        ("25006", "refused"),
        ("28000", "refused"),
        ("3F000", "schema"),
        ("40001", "query"),
        ("40P01", "query"),
        ("42501", "refused"),
        ("42703", "schema"),
        ("42P01", "schema"),
        ("53100", "refused"),
        ("53300", "refused"),
        ("55P03", "timeout"),
        ("57014", "timeout"),
        ("57P01", "unreachable"),
        ("58030", "query"),
        ("XX000", "query"),
    ],
)
def test_each_sqlstate(database: str, sqlstate: str, reason: str) -> None:
    statement = f"DO $$ BEGIN RAISE 'geht nicht' USING ERRCODE = '{sqlstate}'; END $$"
    # The transaction repeats a serialization failure and a deadlock until this time has passed.
    with pytest.raises(MetadataDbError) as error:
        reader(database).query(lambda connection: connection.execute(text(statement)), 2)
    assert error.value.reason == reason
    assert "cannot be reached" not in str(error.value)


@contextmanager
def server_that_says(sqlstate: str) -> Iterator[str]:
    """Return the URL of a server that refuses each session, with a message in an unusual language."""
    fields = f"SFEHLER\0VFATAL\0C{sqlstate}\0Mgeht nicht\0\0".encode()
    answer = b"E" + (4 + len(fields)).to_bytes(4) + fields
    ssl_request = 80877103

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, suppress(OSError):
                while int.from_bytes(client.recv(1024)[4:8]) == ssl_request:
                    client.sendall(b"N")
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"postgresql://u:hunter2@127.0.0.1:{listener.getsockname()[1]}/d"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("sqlstate", "reason"),
    [
        ("28P01", "refused"),
        ("28000", "refused"),
        ("3D000", "refused"),
        ("53300", "refused"),
        ("55000", "refused"),
        ("08P01", "refused"),
        ("57P03", "unreachable"),
    ],
)
def test_a_server_that_refuses_the_session(sqlstate: str, reason: str) -> None:
    with server_that_says(sqlstate) as url:
        error = error_of(url)
    assert error.reason == reason
    assert "geht nicht" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1:1/d",
        "postgresql://u:hunter2@no-such-host.invalid/d",
        "postgresql://u:hunter2@/d?host=/no/such/directory",
        "postgresql://u:hunter2@127.0.0.1:1/d?sslmode=verify-full&sslrootcert=/no/such/file",
    ],
)
def test_no_server_answers(url: str) -> None:
    error = error_of(url)
    assert error.reason == "unreachable"
    assert "cannot be reached" in str(error)
    assert "hunter2" not in str(error)


def test_a_server_that_ends_the_session_without_a_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                client.close()

        threading.Thread(target=serve, daemon=True).start()
        assert error_of(f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/d").reason == "unreachable"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server(open_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecurePostgres]:
    processes = Processes(tmp_path_factory.mktemp("reasons"), forks_ampd=True)
    directory = open_directory / "reasons"
    directory.mkdir()
    try:
        with secure_postgres(DEBIANS, directory, processes) as started:
            yield started
    finally:
        processes.end()


@pytest.mark.slow
def test_what_postgresql_refuses(server: SecurePostgres) -> None:
    with psycopg.connect(server.of_superuser("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE amp")
        connection.execute("CREATE DATABASE closed ALLOW_CONNECTIONS false")
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'secret'")
        connection.execute("CREATE ROLE nologin PASSWORD 'secret'")
        connection.execute("CREATE ROLE full LOGIN PASSWORD 'secret' CONNECTION LIMIT 0")
    good = server.of("reader", "secret", "amp")
    assert error_of(good).reason == "schema"
    plain = f"postgresql://reader:secret@127.0.0.1:{server.port}/amp?sslmode=disable"
    for url in (
        server.of("reader", "wrong", "amp"),
        server.of("nobody", "secret", "amp"),
        server.of("nologin", "secret", "amp"),
        server.of("full", "secret", "amp"),
        server.of("reader", "secret", "missing"),
        server.of("reader", "secret", "closed"),
        plain,  # pg_hba.conf has no line for it
    ):
        error = error_of(url)
        assert (error.reason, "refuses the connection" in str(error)) == ("refused", True), url


def test_pgbouncer_in_statement_mode(
    database: str, processes: Processes, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    port = start_pgbouncer(processes, postgres, tmp_path, pool_mode="statement")
    url = f"postgresql://postgres@127.0.0.1:{port}/{database.rpartition('?')[0].rpartition('/')[2]}"
    with pytest.raises(MetadataDbError, match="the metadata DB refuses: transaction blocks not allowed") as error:
        reader(url).query(read, 20)
    assert error.value.reason == "refused"


@pytest.mark.parametrize(
    "raised", [ValueError("year 10000"), OverflowError(), UnicodeDecodeError("utf8", b"", 0, 1, "")]
)
def test_an_answer_that_cannot_be_read(database: str, raised: Exception) -> None:
    def run(_: object) -> None:
        raise raised

    with pytest.raises(MetadataDbError, match="answer cannot be read") as error:
        reader(database).query(run, 20)
    assert error.value.reason in REASONS


def test_a_date_that_python_does_not_have(database: str) -> None:
    with pytest.raises(MetadataDbError, match="cannot be read"):
        reader(database).query(lambda connection: connection.scalar(text("SELECT timestamptz '20000-01-01'")), 20)
