"""An existing fleet of Amp's own, shown by the real processes: docs/amp.md as printed, and an upgrade of the schema."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Witnessed
from tests.docs.pages import blocks_run_by
from tests.metadata_db import amp
from tests.processes import BIN, ROOT, Processes, eventually, free_port, get, run
from tests.secure_postgres import DEBIANS, SecurePostgres, secure_postgres

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "amp.md").read_text()


@pytest.fixture(scope="module")
def cluster(open_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecurePostgres]:
    processes = Processes(tmp_path_factory.mktemp("amps-own"))
    directory = open_directory / "amps-own"
    directory.mkdir()
    try:
        with secure_postgres(DEBIANS, directory, processes) as started:
            yield started
    finally:
        processes.end()


@pytest.fixture
def server(cluster: SecurePostgres) -> Iterator[SecurePostgres]:
    """Amp's PostgreSQL, with the current schema in a database `amp`."""
    with psycopg.connect(cluster.of_superuser("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE amp")
        amp.migrate(cluster.of_superuser("amp"), amp.TODAYS)
        yield cluster
        connection.execute("DROP DATABASE amp WITH (FORCE)")


def test_the_page_runs_as_printed(server: SecurePostgres, processes: Processes, witnessed: Witnessed) -> None:
    """Only the listen addresses of the servers differ. README.md and docs/operations.md show a part of the page."""
    amp.register(server.of_superuser("amp"), amp.TODAYS, "indexer-node-1")
    before = dump(server)
    admin, exporter = free_port(), free_port()
    elsewhere = free_port()
    here = {
        "postgresql://postgres@db.example.org:5432/amp": server.of_superuser("amp"),
        "postgresql://amp_reader:secret@db.example.org:5432/amp": server.of("amp_reader", "secret", "amp"),
        "ampd admin\n": f"ampd admin --web.listen-address 127.0.0.1:{admin}\n",
        "ampd exporter\n": f"ampd exporter --web.listen-address 127.0.0.1:{exporter}\n",
        "127.0.0.1:1611": f"127.0.0.1:{elsewhere}",
    }
    blocks = blocks_run_by(__file__, "docs/amp.md")
    for printed, ours in here.items():
        assert any(printed in block for block in blocks)
        blocks = [block.replace(printed, ours) for block in blocks]
    grants, serve_api, serve_metrics, look, serve_elsewhere, look_there = blocks
    environment = {"PATH": f"{BIN}:{server.programs}:/usr/bin:/bin"}
    done = run("bash", "-euo", "pipefail", "-c", grants, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    reader = {"AMP_METADATA_DB_URL": server.of("amp_reader", "secret", "amp")}
    for block in (serve_api, serve_metrics, serve_elsewhere):
        processes.start("bash", "-euo", "pipefail", "-c", block, env=environment | reader)
    for port in (admin, exporter, elsewhere):
        eventually(partial(get, f"http://127.0.0.1:{port}/-/ready"), 30)
    api = {"AMP_ADMIN_URL": f"http://127.0.0.1:{witnessed(admin)}"}
    for block in (look, look_there.replace("localhost:1611", f"127.0.0.1:{witnessed(elsewhere)}")):
        seen = run("bash", "-euo", "pipefail", "-c", block, env=environment | api)
        assert re.fullmatch(r"indexer-node-1 \(last heartbeat: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)\n", seen.stdout), seen
    assert 'amp_worker_info{node_id="indexer-node-1"' in get(f"http://127.0.0.1:{exporter}/metrics")
    assert dump(server) == before
    (attach,) = blocks_run_by(__file__, "README.md")
    (grant,) = blocks_run_by(__file__, "docs/operations.md")
    printed = "".join(blocks_run_by(__file__, "docs/amp.md"))
    assert set(attach.replace(" &\n", "\n").splitlines()) <= set(printed.splitlines())
    assert grant in printed


def test_workers_are_removed_as_the_page_says(
    server: SecurePostgres, processes: Processes, unused_port: int, witnessed: Witnessed
) -> None:
    superuser = server.of_superuser("amp")
    for node_id in ("lost", "busy"):
        amp.register(superuser, amp.TODAYS, node_id, silent_for=120)
    (rights,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.M | re.S)
    grants = f"ampd migrate --print-grants | psql '{superuser}'"
    environment = {"PATH": f"{BIN}:{server.programs}:/usr/bin:/bin"}
    token = {"AMP_AUTH_TOKEN": "a-token-of-the-operator"}
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute("INSERT INTO jobs (descriptor) VALUES ('{}')")
        connection.execute("INSERT INTO jobs_status (job_id, node_id, status) SELECT id, 'busy', 'COMPLETED' FROM jobs")
        assert run("bash", "-euo", "pipefail", "-c", grants, env=environment).returncode == 0
        connection.execute(f"{rights}; ALTER ROLE amp_admin PASSWORD 'secret'".encode())
        # The page asks to run it again after an upgrade. It revokes nothing from the role.
        assert run("bash", "-euo", "pipefail", "-c", grants, env=environment).returncode == 0
        url = server.of("amp_admin", "secret", "amp")
        processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{unused_port}", database=url, env=token)
        eventually(lambda: get(f"http://127.0.0.1:{unused_port}/-/ready"))
        api = token | {"AMP_ADMIN_URL": f"http://127.0.0.1:{witnessed(unused_port)}"}
        done = run("ampctl", "worker", "forget", "lost", "busy", "--yes", env=api)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "worker 'busy' is still in use: 1 job of table jobs_status must be" in done.stderr
        assert connection.execute("SELECT node_id FROM workers").fetchall() == [("busy",)]


def dump(server: SecurePostgres) -> str:
    """Dump Amp's whole database, without the privileges of our roles on it."""
    done = run(str(server.programs / "pg_dump"), "--no-privileges", server.of_superuser("amp"))
    assert done.returncode == 0, done.stderr
    return re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.M)  # these lines differ from dump to dump


def test_an_old_schema_is_refused_until_amp_is_upgraded(
    empty_database: str, processes: Processes, witnessed: Witnessed
) -> None:
    admin, exporter = free_port(), free_port()
    amp.migrate(empty_database, amp.FIRST)
    amp.register(empty_database, amp.FIRST, "alive")
    processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{admin}", database=empty_database)
    processes.ampd("exporter", "--web.listen-address", f"127.0.0.1:{exporter}", database=empty_database)
    for port in (admin, exporter):
        eventually(partial(get, f"http://127.0.0.1:{port}/-/healthy"), 30)
    api = {"AMP_ADMIN_URL": f"http://127.0.0.1:{witnessed(admin)}"}
    advice = "before Amp's migration 20251219050000: upgrade Amp"
    for age in amp.TOO_OLD:
        amp.migrate(empty_database, age)
        assert advice in run("ampctl", "worker", "list", env=api).stderr
        metrics = get(f"http://127.0.0.1:{exporter}/metrics")
        assert "amp_metadata_db_up 0.0\n" in metrics
        assert "amp_workers{" not in metrics
        for port in (admin, exporter):
            assert advice in ready(port)[1]
    amp.migrate(empty_database, amp.TODAYS)
    for port in (admin, exporter):
        eventually(lambda port=port: ready(port)[0] == 200)  # type: ignore[misc]
    with amp.AmpsWorker(empty_database, amp.TODAYS, "alive") as alive:

        def is_shown() -> bool:
            alive.beat()
            listed = json.loads(run("ampctl", "worker", "list", "--json", env=api).stdout)["workers"]
            assert [(each["node_id"], each["state"]) for each in listed] == [("alive", "active")]
            alive.beat()
            assert 'amp_workers{state="active"} 1.0\n' in get(f"http://127.0.0.1:{exporter}/metrics")
            return True

        eventually(is_shown)


def ready(port: int) -> tuple[int, str]:
    """Return the status and the text of a server's readiness endpoint."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
