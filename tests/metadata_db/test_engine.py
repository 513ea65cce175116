import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from metadata_db import MetadataDbError, MetadataDbUrl, Reader, check_schema, connect, deadline, single_engine, told

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
    return lambda url: Reader(MetadataDbUrl.parse(url), "a reader", connections=2, statement_timeout=4)


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
        reader(database).query(lambda connection: connection.execute(text("DELETE FROM workers")), 2)
    assert refused.value.reason == "refused"


def test_a_statement_past_its_deadline_is_cancelled_and_the_session_kept(connection: Connection) -> None:
    with pytest.raises(MetadataDbError) as late, told(), deadline(connection, 0.3):
        connection.execute(text("SELECT pg_sleep(30)"))
    assert late.value.reason == "timeout"
    assert connection.scalar(text("SELECT 1")) == 1


def test_a_silent_server_is_left_after_the_deadline(connection: Connection) -> None:
    backend = session(connection).info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(MetadataDbError) as left, told(), deadline(connection, 0.3):
            connection.execute(text("SELECT 1"))
    finally:
        os.kill(backend, signal.SIGCONT)
    assert (left.value.reason, str(left.value)) == ("timeout", "the metadata DB did not answer within 0.3 s")
    assert time.monotonic() - started < 3


def test_a_port_that_never_answers_is_left_after_the_connect_timeout(reader: MakeReader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:hunter2@127.0.0.1:{silent.getsockname()[1]}/d"
        with pytest.raises(MetadataDbError) as left:
            reader(url).query(check_schema, 5)
    assert left.value.reason in {"timeout", "unreachable"}
    assert "hunter2" not in str(left.value)


def test_a_read_after_the_session_was_ended_is_tried_again(
    database: str, reader: MakeReader, sql: Callable[..., list[Any]]
) -> None:
    reads = reader(database)
    reads.query(check_schema, 2)
    ended = sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'a reader'")
    assert ended == [(True,)]
    reads.query(check_schema, 2)


def test_each_trouble_is_told_once(empty_database: str, reader: MakeReader, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="metadata_db")
    reads = reader(empty_database)
    for _ in range(3):
        with pytest.raises(MetadataDbError, match="run `ampd migrate`"):
            reads.query(check_schema, 2)
    for _ in range(3):
        reads.query(lambda connection: connection.scalar(text("SELECT 1")), 2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/d", "unreachable"),
        ("postgresql://u:hunter2@no-such-host.invalid/d", "unreachable"),
        ("postgresql://u:hunter2@/d?host=/no/such/directory", "unreachable"),
    ],
)
def test_what_cannot_be_reached_is_told_in_one_line_without_the_password(
    reader: MakeReader, url: str, reason: str
) -> None:
    with pytest.raises(MetadataDbError) as error:
        reader(url).query(check_schema, 3)
    assert error.value.reason == reason
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_database_or_a_role_that_does_not_exist_is_a_refusal(database: str, reader: MakeReader) -> None:
    for url in (database.replace("/test_", "/nowhere_"), database.replace("postgres@", "nobody_there@")):
        with pytest.raises(MetadataDbError) as error:
            reader(url).query(check_schema, 3)
        assert error.value.reason == "refused", str(error.value)
