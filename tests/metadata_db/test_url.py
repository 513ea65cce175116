from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from amp_workers.metadata_db import (
    InvalidMetadataDbUrl,
    MetadataDbError,
    MetadataDbUrl,
    Reader,
    connect,
    from_environment,
    server_of,
    single_engine,
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://amp:hunter2@db:5433/amp", "postgresql://amp@db:5433/amp"),
        ("postgres://amp:hunter2@db/amp?sslmode=require", "postgresql://amp@db/amp"),
        ("postgresql+psycopg://amp:hunter2@[::1]:5432/amp", "postgresql://amp@[::1]:5432/amp"),
        ("postgresql://amp@/amp?host=/run/pg&password=hunter2", "postgresql://amp@/amp?host=/run/pg"),
        ("postgresql://db1:5432,db2:5432/amp", "postgresql://db1:5432,db2:5432/amp"),
        ("postgresql:///?service=amp&password=hunter2", "postgresql:///?service=amp"),
        ("postgresql:///amp", "postgresql:///amp"),
        ("\n postgresql://amp:hunter2@db/amp\r\n", "postgresql://amp@db/amp"),
    ],
)
def test_is_shown_without_its_password(url: str, shown: str) -> None:
    parsed = MetadataDbUrl.parse(url)
    assert str(parsed) == shown
    assert "hunter2" not in f"{parsed} {parsed!r}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "mysql://amp:hunter2@db/amp",
        "postgresql://amp:hunter2%zz@db/amp",
        "postgresql://amp:hunter2@[::1/amp",
        "postgresql://amp@db/amp?hunter2=1",
        "postgresql://amp:s3/hunter2@127.0.0.1:5432/amp",
        "postgresql://amp:s3@hunter2@127.0.0.1:5432/amp",
        "postgresql://amp:s3:hunter2/x@127.0.0.1/amp",
        "postgresql://amp:12/hunter2@127.0.0.1/amp",
        "postgresql://amp:hunter2/amp",
    ],
)
def test_one_that_cannot_be_read_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(InvalidMetadataDbUrl) as refused:
        MetadataDbUrl.parse(url)
    assert "hunter2" not in str(refused.value)
    assert "postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in str(refused.value)


def test_the_environment_has_two_names_for_it() -> None:
    assert from_environment({"AMP_CONFIG_METADATA_DB__URL": "b"}) == "b"
    assert from_environment({"AMP_METADATA_DB_URL": "a", "AMP_CONFIG_METADATA_DB__URL": "b"}) == "a"
    assert from_environment({}) is None


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("schema=public&connection_limit=5", "'schema', 'connection_limit'"),
        ("sslmode=disable&statement-cache-capacity=100", "'statement-cache-capacity'"),
    ],
)
def test_a_parameter_that_libpq_does_not_have_is_named(query: str, named: str) -> None:
    with pytest.raises(InvalidMetadataDbUrl, match=f"^libpq has no parameter {named}: remove it from the URL"):
        MetadataDbUrl.parse(f"postgresql://amp:hunter2@db/amp?{query}")


def test_what_may_be_a_part_of_the_password_is_not_named() -> None:
    with pytest.raises(InvalidMetadataDbUrl) as refused:
        MetadataDbUrl.parse("postgresql://amp:a/b?hunter=c@db/amp")
    assert "hunter" not in str(refused.value)


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(InvalidMetadataDbUrl, match="UTF-8 byte order mark"):
        MetadataDbUrl.parse("\ufeffpostgresql://amp:hunter2@db/amp")


def test_a_file_is_read_again_and_a_bad_one_leaves_the_url_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://amp:hunter2@db/amp\n")
    url = MetadataDbUrl.read(file)
    file.write_text("postgresql://amp:hunter3@other/amp\n")
    assert url.conninfo == "postgresql://amp:hunter3@other/amp"
    assert str(url) == "postgresql://amp@other/amp"
    for bad in (b"", b"hunter2\xff", b"postgresql://amp:hunter2%zz@db/amp", None):
        caplog.clear()
        file.unlink() if bad is None else file.write_bytes(bad)
        for _ in range(2):
            assert url.conninfo == "postgresql://amp:hunter3@other/amp"
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "the previous URL stays in use" in caplog.text
        assert "hunter" not in caplog.text
    file.write_text("postgresql://amp@third/amp")
    assert url.conninfo == "postgresql://amp@third/amp"


def test_a_session_is_shown_as_what_it_is_connected_to(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = conninfo_to_dict(database)
    monkeypatch.setenv("PGHOST", str(parameters["host"]))
    monkeypatch.setenv("PGDATABASE", str(parameters["dbname"]))
    monkeypatch.setenv("PGUSER", "postgres")
    engine = single_engine(MetadataDbUrl.parse("postgresql://"), "a test", statement_timeout=5)
    with connect(engine, 5) as connection:
        assert server_of(connection) == f"postgresql://postgres@/{parameters['dbname']}?host={parameters['host']}"


def test_the_end_of_an_outage_names_the_server_that_answers(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The URL leaves the host to PGHOST. A service file could set it as well."""
    parameters = conninfo_to_dict(database)
    monkeypatch.setenv("PGHOST", str(parameters["host"]))
    url = MetadataDbUrl.parse(f"postgresql://{parameters['user']}@/{parameters['dbname']}")
    reader = Reader(url, "test", connections=1, statement_timeout=5)
    with pytest.raises(MetadataDbError):
        reader.query(lambda connection: connection.exec_driver_sql("SELECT 1 / 0"), 5)
    reader.query(lambda connection: connection.exec_driver_sql("SELECT 1"), 5)
    assert f"host={parameters['host']}" in caplog.messages[-1]
    assert "is available again" in caplog.messages[-1]
