import pytest

from amp_workers.metadata_db import InvalidMetadataDbUrl, MetadataDbUrl, from_environment


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://amp:hunter2@db:5433/amp", "postgresql://amp@db:5433/amp"),
        ("postgres://amp:hunter2@db/amp?sslmode=require", "postgresql://amp@db/amp"),
        ("postgresql+psycopg://amp:hunter2@[::1]:5432/amp", "postgresql://amp@::1:5432/amp"),
        ("postgresql://amp@/amp?host=/run/pg&password=hunter2", "postgresql://amp@/amp?host=/run/pg"),
        ("postgresql://db1:5432,db2:5432/amp", "postgresql://db1,db2:5432,5432/amp"),
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
