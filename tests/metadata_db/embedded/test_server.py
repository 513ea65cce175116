import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from amp_workers.metadata_db.embedded import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    account,
    find_place,
    ignore_libpq_environment,
)
from tests.processes import eventually, freeze

pytestmark = pytest.mark.slow


@pytest.fixture
def make_server(open_directory: Path) -> Iterator[Callable[[], EmbeddedPostgres]]:
    """Create servers that share one data directory."""
    made: list[EmbeddedPostgres] = []
    name = f"server-{time.monotonic_ns()}"

    def make() -> EmbeddedPostgres:
        owner = account()
        made.append(EmbeddedPostgres(find_place(open_directory / name, owner), owner))
        return made[-1]

    yield make
    for server in made:
        server.stop(30)


LIBPQ_ENVIRONMENT = {
    "PGPORT": "6432",
    "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nowhere",
    "PGTARGETSESSIONATTRS": "standby",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGREQUIREPEER": "nobody-else",
    "PGOPTIONS": "-c no_such_setting=1",
    "PGHOSTADDR": "192.0.2.1",
    "PGCLIENTENCODING": "NOTHING",
    "PGTZ": "Nowhere/Land",
    "PGDATESTYLE": "Nothing",
    "PGSSLMODE": "bogus",
    "PGGSSENCMODE": "bogus",
}


def silent(_: str) -> None:
    pass


def waited(line: str) -> int:
    """Return the seconds that a log line reports for a slow start; 0 if it reports none."""
    found = re.search(r"is still starting up after (\d+) s", line)
    return int(found[1]) if found else 0


def family(server: EmbeddedPostgres) -> list[psutil.Process]:
    assert server.pid is not None
    postmaster = psutil.Process(server.pid)
    return [postmaster, *postmaster.children(recursive=True)]


def suspended(server: EmbeddedPostgres, word: str) -> psutil.Process | None:
    """Suspend the first process of the server whose title contains the word. None as long as there is none."""
    if server.pid is None:
        return None
    with suppress(psutil.NoSuchProcess):  # a process that ends while the test inspects it
        for process in psutil.Process(server.pid).children():
            if word in " ".join(process.cmdline()):
                process.suspend()
                return process
    return None


def test_the_data_stays(make_server: Callable[[], EmbeddedPostgres]) -> None:
    first = make_server()
    first.start(silent)
    with psycopg.connect(first.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    first.stop(5)
    second = make_server()
    second.start(silent)
    with psycopg.connect(second.url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_it_listens_on_no_network(make_server: Callable[[], EmbeddedPostgres]) -> None:
    server = make_server()
    server.start(silent)
    assert family(server)[0].net_connections("inet") == []
    assert len(family(server)[0].net_connections("unix")) >= 1


def test_a_start_waits_for_a_recovery_of_more_than_ten_seconds(make_server: Callable[[], EmbeddedPostgres]) -> None:
    """After SIGKILL of all processes, the startup process, which recovers the data, is suspended for as long."""
    crashed = make_server()
    crashed.start(silent)
    with psycopg.connect(crashed.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT g, repeat('x', 500) AS x FROM generate_series(1, 200000) g")
    for process in family(crashed):
        with suppress(psutil.NoSuchProcess):  # the other processes end by themselves after their postmaster
            process.kill()
    eventually(lambda: crashed.poll() is not None)

    recovering = make_server()
    said: list[str] = []

    def hold_back() -> None:
        startup = eventually(lambda: suspended(recovering, "startup"))
        time.sleep(11)
        eventually(lambda: any(waited(line) >= 10 for line in said))
        startup.resume()

    holding = threading.Thread(target=hold_back)
    holding.start()
    started = time.monotonic()
    recovering.start(said.append)
    holding.join()
    assert time.monotonic() - started > 11
    with psycopg.connect(recovering.url) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (200000,)
    assert max(map(waited, said)) >= 10, said


def test_a_server_whose_parent_was_killed_ends(make_server: Callable[[], EmbeddedPostgres], tmp_path: Path) -> None:
    server = make_server()
    server.start(silent)
    server.stop(5)
    directory = server.place.directory
    program = (
        "import sys, time; from pathlib import Path; from amp_workers.metadata_db.embedded import *;"
        "s = EmbeddedPostgres(find_place(Path(sys.argv[1]), account()), account());"
        "s.start(lambda _: None); print(s.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    eventually(lambda: not psutil.pid_exists(pid))


def test_an_orphan_is_ended_and_its_data_used(make_server: Callable[[], EmbeddedPostgres]) -> None:
    orphan, heir = make_server(), make_server()
    orphan.start(silent)
    with psycopg.connect(orphan.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    said: list[str] = []
    heir.start(said.append)
    assert [line for line in said if not waited(line)] == [
        f"ending a PostgreSQL that was left running (pid {orphan.pid})"
    ]
    assert orphan.poll() is not None
    with psycopg.connect(heir.url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_a_pid_that_was_given_to_another_process_is_no_orphan(make_server: Callable[[], EmbeddedPostgres]) -> None:
    first = make_server()
    first.start(silent)
    first.stop(5)
    owner = account()
    stranger = subprocess.Popen(["/bin/sleep", "60"], user=None if owner.is_ours else owner.uid)
    lock = first.place.data / "postmaster.pid"
    lock.write_text(f"{stranger.pid}\n{first.place.data}\n{int(time.time())}\n5432\n\n\n")
    os.chown(lock, owner.uid, owner.gid)
    said: list[str] = []
    make_server().start(said.append)
    assert [line for line in said if not waited(line)] == []
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_server_that_does_not_start_reports_the_reason(make_server: Callable[[], EmbeddedPostgres]) -> None:
    server = make_server()
    server.start(silent)
    server.stop(5)
    (server.place.data / "postgresql.conf").write_text("no such setting\n")
    with pytest.raises(EmbeddedPostgresError, match=r"PostgreSQL did not start: .*postgresql\.conf"):
        make_server().start(silent)


def test_an_interrupted_creation_is_restarted(make_server: Callable[[], EmbeddedPostgres]) -> None:
    server = make_server()
    (server.place.directory / "data.unfinished").mkdir()
    (server.place.directory / "data.unfinished" / "PG_VERSION").write_text("18\n")
    server.start(silent)
    assert server.poll() is None


def test_stop_ends_a_server_that_is_frozen(make_server: Callable[[], EmbeddedPostgres]) -> None:
    server = make_server()
    server.start(silent)
    postmaster = family(server)[0]
    freeze(postmaster.pid)
    server.stop(0.5)
    assert not postmaster.is_running()


def test_a_start_that_makes_no_progress_ends_with_the_reason(make_server: Callable[[], EmbeddedPostgres]) -> None:
    server = make_server()
    server.start(silent)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET restore_command = 'sleep 600'")
        (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    server.stop(5)
    (Path(data) / "recovery.signal").touch()
    with pytest.raises(EmbeddedPostgresError, match=r"logged nothing for 2 s; its last line: .*LOG:"):
        make_server().start(silent, patience=2)


def test_nothing_of_the_environment_applies(make_server: Callable[[], EmbeddedPostgres]) -> None:
    server = make_server()
    server.start(silent)
    for name, value in LIBPQ_ENVIRONMENT.items():
        environ = {name: value, "PATH": "kept"}
        ignore_libpq_environment(environ)
        program = f"import psycopg; psycopg.connect({server.url!r}).close()"
        done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), name
