"""Row-level security is an error that names it: hidden workers are never shown as an empty fleet."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from amp_workers.metadata_db import (
    MetadataDbError,
    MetadataDbUrl,
    Reader,
    check_schema,
    connect,
    single_engine,
    translate_errors,
)
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.conftest import Insert
from tests.metadata_db.registering import enter
from tests.metadata_db.test_fleet import read
from tests.pgbouncer import start_pgbouncer
from tests.processes import Processes, eventually, free_port, get

Sql = Callable[..., list[Any]]

ADVICE = r"row-level security applies .* ALTER ROLE … BYPASSRLS"


@pytest.fixture
def restricted(database: str, sql: Sql, insert_worker: Insert) -> Iterator[str]:
    """The URL of a role that may use the table, and to which its rows are not visible."""
    insert_worker("w")
    sql("CREATE ROLE restricted LOGIN")
    sql("GRANT ALL ON workers TO restricted")
    sql("ALTER TABLE workers ENABLE ROW LEVEL SECURITY")
    yield database.replace("postgres@", "restricted@")
    sql("ALTER TABLE workers OWNER TO postgres")
    sql("REVOKE ALL ON workers FROM restricted")
    sql("DROP ROLE restricted")


def refused(url: str) -> None:
    parsed = MetadataDbUrl.parse(url)
    reader = Reader(parsed, "a reader", connections=1, statement_timeout=5)
    for run in (check_schema, read):
        with pytest.raises(MetadataDbError, match=ADVICE) as error:
            reader.query(run, 5)
        assert error.value.reason == "refused"
    with (
        connect(single_engine(parsed, "a worker", statement_timeout=5), 5) as connection,
        pytest.raises(MetadataDbError, match=ADVICE),
        translate_errors(),
    ):
        enter(connection, "another", {})


def test_readers_and_workers_are_refused(
    restricted: str, sql: Sql, processes: Processes, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    port = start_pgbouncer(processes, postgres, tmp_path, role="restricted")
    pooled = f"postgresql://restricted@127.0.0.1:{port}/{restricted.rpartition('?')[0].rpartition('/')[2]}"
    for url in (restricted, pooled):
        refused(url)
    # The owner of a table sees all rows, unless the policies are forced.
    sql("ALTER TABLE workers OWNER TO restricted")
    Reader(MetadataDbUrl.parse(restricted), "a reader", connections=1, statement_timeout=5).query(read, 5)
    sql("ALTER TABLE workers FORCE ROW LEVEL SECURITY")
    for url in (restricted, pooled):
        refused(url)


@pytest.mark.slow
def test_each_part_reports_it_and_recovers(restricted: str, sql: Sql, processes: Processes) -> None:
    admin, exporter = free_port(), free_port()
    worker = processes.ampd("worker", "--node-id=new", database=restricted)
    servers = [
        processes.ampd(part, "--web.listen-address", f"127.0.0.1:{port}", database=restricted)
        for part, port in (("admin", admin), ("exporter", exporter))
    ]
    for port in (admin, exporter):
        eventually(partial(get, f"http://127.0.0.1:{port}/-/healthy"))
    for _ in range(2):
        metrics = get(f"http://127.0.0.1:{exporter}/metrics")
        assert "amp_metadata_db_up 0.0" in metrics
        assert "\namp_workers{" not in metrics
        with pytest.raises(OSError, match="503"):
            get(f"http://127.0.0.1:{admin}/workers")
    assert 'amp_exporter_scrape_errors_total{reason="refused"} 2.0' in metrics
    for process in (worker, *servers):
        process.says("BYPASSRLS")
        assert process.output.count("BYPASSRLS") == 1
    sql("ALTER ROLE restricted BYPASSRLS")
    worker.says("registered as 'new'")
    for port in (admin, exporter):
        get(f"http://127.0.0.1:{port}/-/ready")
    assert "amp_metadata_db_up 1.0" in get(f"http://127.0.0.1:{exporter}/metrics")
    assert worker.stop() == 0
