"""`ampd migrate` waits for an unavailable metadata DB. It does not wait if a retry cannot help."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.processes import Processes, run
from tests.relay import Relay, socket_of


@pytest.mark.slow
def test_it_retries_while_the_database_is_unavailable(
    processes: Processes, postgres: EmbeddedPostgres, empty_database: str
) -> None:
    relay = Relay(("127.0.0.1", 1))
    database = conninfo_to_dict(empty_database)["dbname"]
    url = f"postgresql://postgres@127.0.0.1:{relay.port}/{database}"
    migrate = processes.ampd("migrate", "--timeout=1h", database=url)
    migrate.says(f"{url}: waiting for at most 3600 s: the metadata DB ")
    relay.target = socket_of(postgres)
    assert migrate.wait() == 0
    relay.close()
    assert migrate.output.endswith(f"{url}: the schema of the workers table is now up to date\n")


@pytest.mark.parametrize("what", ["database", "role"])
def test_it_does_not_wait_where_the_server_refuses(empty_database: str, what: str) -> None:
    head, _, settings = empty_database.partition("?")
    url = f"{head}x?{settings}" if what == "database" else empty_database.replace("postgres@", "nobody@")
    refused = run("ampd", "migrate", "--timeout=1h", env={"AMP_METADATA_DB_URL": url})
    assert refused.returncode == 1
    assert "does not exist" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_it_waits_until_the_timeout() -> None:
    env = {"AMP_METADATA_DB_URL": "postgresql://127.0.0.1:1/d"}
    late = run("ampd", "migrate", "--timeout=2s", env=env)
    assert late.returncode == 1
    assert late.stderr.splitlines()[-1].startswith("Error: postgresql://127.0.0.1:1/d: the metadata DB ")
