import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from amp_workers.metadata_db import (
    MetadataDbError,
    MetadataDbUrl,
    Reader,
    check_schema,
    connect,
    deadline,
    single_engine,
    translate_errors,
)
from tests.processes import Processes, eventually, freeze

MakeReader = Callable[[str], Reader]


def session(connection: Connection) -> psycopg.Connection[Any]:
    driver_connection = connection.connection.driver_connection
    assert isinstance(driver_connection, psycopg.Connection)
    return driver_connection


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with connect(single_engine(MetadataDbUrl.parse(database), "a test", statement_timeout=4), 4) as opened:
        yield opened


@pytest.fixture
def reader() -> MakeReader:
    return lambda url: Reader(MetadataDbUrl.parse(url), "a reader", connections=2, statement_timeout=20)


def test_every_connection_has_a_name_time_limits_and_keepalives(connection: Connection) -> None:
    settings = ("application_name", "statement_timeout", "default_transaction_read_only")
    assert [connection.scalar(text(f"SHOW {name}")) for name in settings] == ["a test", "4s", "off"]
    parameters = session(connection).info.get_parameters()
    assert {name: parameters[name] for name in ("connect_timeout", "keepalives", "keepalives_idle")} == {
        "connect_timeout": "3",
        "keepalives": "1",
        "keepalives_idle": "5",
    }
    assert parameters["tcp_user_timeout"] == "8000"


def test_a_reader_cannot_write(database: str, reader: MakeReader) -> None:
    with pytest.raises(MetadataDbError) as refused:
        reader(database).query(lambda connection: connection.execute(text("DELETE FROM workers")), 20)
    assert refused.value.reason == "refused"


def test_a_statement_past_its_deadline_is_cancelled_and_the_session_kept(connection: Connection) -> None:
    with pytest.raises(MetadataDbError) as late, translate_errors(), deadline(connection, 0.3):
        connection.execute(text("SELECT pg_sleep(30)"))
    assert late.value.reason == "timeout"
    assert connection.scalar(text("SELECT 1")) == 1


@pytest.mark.slow
def test_a_late_cancel_does_not_hit_the_next_statement(connection: Connection) -> None:
    """A statement that ends at the moment of its deadline."""
    for _ in range(40):
        with suppress(MetadataDbError), translate_errors(), deadline(connection, 0.05):
            connection.execute(text("SELECT pg_sleep(0.049)"))
        if connection.invalidated:  # the session was abandoned because the server was too busy even to cancel
            connection.rollback()
        connection.execute(text("SELECT pg_sleep(0.01)"))


def test_a_session_with_a_silent_server_is_abandoned_after_the_deadline(connection: Connection) -> None:
    backend = session(connection).info.backend_pid
    freeze(backend)
    started = time.monotonic()
    try:
        with pytest.raises(MetadataDbError) as left, translate_errors(), deadline(connection, 0.3):
            connection.execute(text("SELECT 1"))
    finally:
        os.kill(backend, signal.SIGCONT)
    assert (left.value.reason, str(left.value)) == ("timeout", "the metadata DB did not answer within 0.3 s")
    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_a_port_that_never_answers_is_abandoned_after_the_connect_timeout(reader: MakeReader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:hunter2@127.0.0.1:{silent.getsockname()[1]}/d"
        with pytest.raises(MetadataDbError) as left:
            reader(url).query(check_schema, 5)
    assert left.value.reason in {"timeout", "unreachable"}
    assert "hunter2" not in str(left.value)


def test_a_read_is_repeated_after_the_session_was_terminated(
    database: str, reader: MakeReader, sql: Callable[..., list[Any]]
) -> None:
    reads = reader(database)
    reads.query(check_schema, 20)
    ended = sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'a reader'")
    assert ended == [(True,)]
    reads.query(check_schema, 20)


def test_each_outage_is_logged_once(empty_database: str, reader: MakeReader, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="amp_workers.metadata_db")
    reads = reader(empty_database)
    for _ in range(3):
        with pytest.raises(MetadataDbError, match="run `ampd migrate`"):
            reads.query(check_schema, 20)
    for _ in range(3):
        reads.query(lambda connection: connection.scalar(text("SELECT 1")), 20)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/d", "unreachable"),
        ("postgresql://u:hunter2@no-such-host.invalid/d", "unreachable"),
        ("postgresql://u:hunter2@/d?host=/no/such/directory", "unreachable"),
    ],
)
def test_an_unreachable_server_is_reported_in_one_line_without_the_password(
    reader: MakeReader, url: str, reason: str
) -> None:
    with pytest.raises(MetadataDbError) as error:
        reader(url).query(check_schema, 20)
    assert error.value.reason == reason
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_full_disk_is_a_refusal(database: str, reader: MakeReader) -> None:
    with pytest.raises(MetadataDbError) as full:
        reader(database).query(lambda connection: connection.execute(text("DO 'BEGIN RAISE disk_full; END'")), 20)
    assert full.value.reason == "refused", str(full.value)


def test_a_database_or_a_role_that_does_not_exist_is_a_refusal(database: str, reader: MakeReader) -> None:
    for url in (database.replace("/test_", "/nowhere_"), database.replace("postgres@", "nobody_there@")):
        with pytest.raises(MetadataDbError) as error:
            reader(url).query(check_schema, 20)
        assert error.value.reason == "refused", str(error.value)


def _greet_and_hang(listener: socket.socket) -> None:
    """Accept each connection as PostgreSQL does, and then never respond."""
    ssl_request = 80877103
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            while int.from_bytes(client.recv(1024)[4:8]) == ssl_request:
                client.sendall(b"N")
            client.sendall(b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I")
            client.recv(1024)  # a statement
            client.recv(1024)  # the end of the connection: only the client ends it


@pytest.mark.slow
def test_a_session_that_connects_late_has_a_deadline_too() -> None:
    """libpq first tries another address, for as long as the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as hanging:
        threading.Thread(target=_greet_and_hang, args=(hanging,), daemon=True).start()
        ports = f"{silent.getsockname()[1]},{hanging.getsockname()[1]}"
        url = MetadataDbUrl.parse(f"postgresql://u@/d?host=127.0.0.1,127.0.0.1&port={ports}")
        engine = single_engine(url, "a test", statement_timeout=60)
        with pytest.raises(MetadataDbError) as raised, translate_errors():
            connect(engine, 1.0)
        assert raised.value.reason == "timeout"


def test_a_session_that_cannot_be_set_up_is_closed(database: str, sql: Callable[..., list[Any]]) -> None:
    sql("CREATE ROLE limited LOGIN")
    try:
        sql("REVOKE EXECUTE ON FUNCTION set_config FROM PUBLIC")
        url = MetadataDbUrl.parse(database.replace("postgres@", "limited@"))
        with pytest.raises(MetadataDbError, match="set_config") as refused, translate_errors():
            connect(single_engine(url, "a test", statement_timeout=4), 4)
        # The test still holds the error with its traceback.
        eventually(lambda: sql("SELECT FROM pg_stat_activity WHERE usename = 'limited'") == [])
        assert refused.value.reason == "refused"
    finally:
        sql("DROP ROLE limited")


FORK = """
import os, sys, time
from amp_workers.metadata_db import MetadataDbUrl, connect, deadline, single_engine

engine = single_engine(MetadataDbUrl.parse(sys.argv[1]), "a test", statement_timeout=60)
with connect(engine, 5) as connection:
    with deadline(connection, 3.0):
        child = os.fork()
        if child == 0:
            with deadline(connection, 60):
                time.sleep(5)
            os._exit(0)
    os.waitpid(child, 0)
    connection.exec_driver_sql("SELECT 1")
print("it lives")
"""


@pytest.mark.slow
def test_a_forked_process_ends_no_session_of_its_parents(processes: Processes, database: str) -> None:
    program = processes.start("python", "-c", FORK, database)
    assert program.wait() == 0, program.output
    assert "it lives" in program.output
