"""Each process works in a role with no other privileges, over TLS and with a password."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
import trustme
from psycopg.errors import InsufficientPrivilege

from tests.admin.witness import witness
from tests.metadata_db import amp
from tests.processes import BIN, Processes, eventually, free_port, get, run
from tests.secure_postgres import DEBIANS, EMBEDDED, SecurePostgres, secure_postgres

pytestmark = pytest.mark.slow

PASSWORD = "hunter2 @:/?#%"
_numbers = count(1)


@pytest.fixture(scope="module", params=[DEBIANS, EMBEDDED])
def server(
    request: pytest.FixtureRequest, open_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecurePostgres]:
    processes = Processes(tmp_path_factory.mktemp("secure"), forks_ampd=True)
    directory = open_directory / f"secure-{request.param}"
    directory.mkdir()
    try:
        with secure_postgres(request.param, directory, processes) as started:
            yield started
    finally:
        processes.end()


@contextmanager
def database(server: SecurePostgres) -> Iterator[str]:
    """A database whose name needs quotes."""
    name = f'Amp\'s "{next(_numbers)}"'
    identifier = psycopg.sql.Identifier(name)
    with psycopg.connect(server.of_superuser("postgres"), autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(identifier))
        yield name
        connection.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def grant(server: SecurePostgres, name: str, names: str = "") -> str:
    """Run the printed grants, and return the output of psql."""
    env = {"URL": server.of_superuser(name), "PATH": f"{BIN}:{server.programs}:/usr/bin:/bin"}
    done = run("bash", "-euo", "pipefail", "-c", f'ampd migrate --print-grants | psql -X {names} "$URL"', env=env)
    assert done.returncode == 0, done.stderr
    return done.stderr


def set_passwords(server: SecurePostgres, *roles: str) -> None:
    with psycopg.connect(server.of_superuser("postgres"), autocommit=True) as connection:
        for role in roles:
            statement = psycopg.sql.SQL("ALTER ROLE {} PASSWORD {}")
            connection.execute(statement.format(psycopg.sql.Identifier(role), PASSWORD))


RIGHTS = """
SELECT r.rolname, c.relname, p.privilege, a.attname FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS p (privilege)
CROSS JOIN pg_roles r
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
AND rolname = ANY (%s) AND has_column_privilege(rolname, c.oid, attname, privilege)
UNION ALL
SELECT r.rolname, c.relname, p.privilege, NULL FROM pg_class c
CROSS JOIN unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) AS p (privilege) CROSS JOIN pg_roles r
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
AND rolname = ANY (%s) AND has_table_privilege(rolname, c.oid, privilege)
UNION ALL
SELECT rolname, 'schema', 'CREATE', NULL FROM pg_roles
WHERE rolname = ANY (%s) AND has_schema_privilege(rolname, 'public', 'CREATE')
UNION ALL
SELECT rolname, 'database', p.privilege, NULL FROM pg_roles CROSS JOIN unnest(ARRAY['CREATE', 'TEMP']) AS p (privilege)
WHERE rolname = ANY (%s) AND has_database_privilege(rolname, current_database(), p.privilege)
UNION ALL
SELECT rolname, 'cluster', 'any', NULL FROM pg_roles
WHERE rolname = ANY (%s) AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
UNION ALL
SELECT m.member::regrole::text, 'role', m.roleid::regrole::text, NULL FROM pg_auth_members m
WHERE m.member::regrole::text = ANY (%s)
"""


def rights(server: SecurePostgres, name: str, *roles: str) -> set[tuple[str | None, ...]]:
    with psycopg.connect(server.of_superuser(name)) as connection:
        return set(connection.execute(RIGHTS.encode(), [list(roles)] * 6))


COLUMNS = {"id", "node_id", "heartbeat_at", "info", "created_at", "registered_at"}
NEEDED = {
    "SELECT": {"node_id", "heartbeat_at", "info", "registered_at"},
    "INSERT": {"node_id", "heartbeat_at", "info", "created_at", "registered_at"},
    "UPDATE": {"heartbeat_at", "info", "registered_at"},
}


OF_JOBS = {
    "jobs_status": {"job_id", "node_id", "status", "updated_at"},
    "job_events": {"id", "job_id", "event_type", "detail"},
}
"""The columns of Amp's jobs that the reader needs."""


def expected(worker: str, reader: str, columns: set[str], *, is_ours: bool) -> set[tuple[str | None, ...]]:
    """Each role has exactly these privileges on all tables of the database. Grants to PUBLIC in Amp's database are
    Amp's.
    """
    of_worker = {(worker, "workers", right, name) for right, names in NEEDED.items() for name in names & columns}
    of_everybody = set() if is_ours else {(role, "database", "TEMP", None) for role in (worker, reader)}
    of_jobs = set() if is_ours else {(reader, table, "SELECT", name) for table in OF_JOBS for name in OF_JOBS[table]}
    return of_worker | {(reader, "workers", "SELECT", name) for name in columns} | of_jobs | of_everybody


def try_all(server: SecurePostgres, worker: str, reader: str, name: str) -> None:
    """Assert that PostgreSQL refuses what the roles must not do."""
    anything = ["DELETE FROM workers", "TRUNCATE workers", "DROP TABLE workers", "CREATE TABLE mine (id int)"]
    anything += ["UPDATE workers SET node_id = 'another'", "SELECT * FROM others", "ALTER TABLE workers ADD x int"]
    for role, statements in (
        (worker, [*anything, "UPDATE workers SET created_at = now()", "SELECT created_at FROM workers"]),
        (reader, [*anything, "UPDATE workers SET heartbeat_at = now()", "INSERT INTO workers (node_id) VALUES ('w')"]),
    ):
        with psycopg.connect(server.of(role, PASSWORD, name), autocommit=True) as connection:
            for statement in statements:
                with pytest.raises(InsufficientPrivilege):
                    connection.execute(statement.encode())


def show(server: SecurePostgres, processes: Processes, reader: str, name: str) -> None:
    """Assert that both readers, in their role, show the only worker."""
    admin, exporter = free_port(), free_port()
    url = server.of(reader, PASSWORD, name)
    processes.ampd("admin", "--web.listen-address", f"127.0.0.1:{admin}", database=url)
    processes.ampd("exporter", "--web.listen-address", f"127.0.0.1:{exporter}", database=url)
    with witness(admin) as seen:
        eventually(lambda: '"state":"active"' in get(f"http://127.0.0.1:{seen}/workers"))
    eventually(lambda: 'amp_workers{state="active"} 1.0' in get(f"http://127.0.0.1:{exporter}/metrics"))


def test_on_a_database_of_its_own(server: SecurePostgres, processes: Processes) -> None:
    worker, reader = "amp_worker", "amp_reader"
    with database(server) as name:
        warned = 'there is no workers table yet: run "ampd migrate" as the owner, and then this once more\n'
        assert grant(server, name) == warned
        set_passwords(server, "amp_owner", worker, reader)
        migrate = processes.ampd("migrate", database=server.of("amp_owner", PASSWORD, name))
        assert migrate.wait() == 0, migrate.output
        for _ in range(2):
            assert grant(server, name) == ""
        again = processes.ampd("migrate", database=server.of("amp_owner", PASSWORD, name))
        assert again.wait() == 0, again.output
        with psycopg.connect(server.of_superuser(name)) as connection:
            connection.execute("CREATE TABLE others (id int)")

        url = server.of(worker, PASSWORD, name)
        first = processes.ampd("worker", "--node-id=w", database=url)
        first.says("registered as 'w'")
        # A member of the role may end the sessions of the same role, and no others.
        first.freeze()
        second = processes.ampd("worker", "--node-id=w", database=url)
        second.says("registered as 'w'")
        first.signal(signal.SIGCONT)
        assert first.wait() == 3
        show(server, processes, reader, name)
        assert rights(server, name, worker, reader) == expected(worker, reader, COLUMNS, is_ours=True)
        try_all(server, worker, reader, name)
        for role in (worker, reader):
            with (
                psycopg.connect(server.of(role, PASSWORD, name), autocommit=True) as connection,
                pytest.raises(InsufficientPrivilege),
            ):
                connection.execute("CREATE TEMPORARY TABLE mine (id int)")
        assert second.stop(30) == 0


def test_objects_that_a_superuser_migrated_become_the_owners(server: SecurePostgres, processes: Processes) -> None:
    """All objects, so that the owner can run the next migration."""
    with database(server) as name:
        assert processes.ampd("migrate", database=server.of_superuser(name)).wait() == 0
        assert grant(server, name) == ""
        set_passwords(server, "amp_owner")
        again = processes.ampd("migrate", database=server.of("amp_owner", PASSWORD, name))
        assert again.wait() == 0, again.output
        with psycopg.connect(server.of_superuser(name)) as connection:
            owned = connection.execute("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public'")
            assert set(owned) == {("workers", "amp_owner"), ("ampd_alembic_version", "amp_owner")}


def test_on_amps_own_database(server: SecurePostgres, processes: Processes) -> None:
    """With names that the operator chooses, however unusual, and with no owner besides Amp's."""
    worker, reader = 'the "worker"', "o'reader"
    names = f"""-v worker='{worker}' -v reader="{reader}" -v owner=nobodys"""
    with database(server) as name:
        amp.migrate(server.of_superuser(name), amp.TODAYS)
        with psycopg.connect(server.of_superuser(name)) as connection:
            connection.execute("CREATE TABLE others (id int)")
        for _ in range(2):
            assert grant(server, name, names) == ""
        set_passwords(server, worker, reader)
        assert rights(server, name, worker, reader, "nobodys") == expected(worker, reader, COLUMNS, is_ours=False)
        url = server.of(worker, PASSWORD, name)
        running = processes.ampd("worker", "--node-id=w", "--join-amp-fleet", database=url)
        running.says("registered as 'w'")
        try_all(server, worker, reader, name)
        show(server, processes, reader, name)
        migrate = processes.ampd("migrate", database=server.of(worker, PASSWORD, name))
        assert migrate.wait() == 0
        assert "this database is Amp's own" in migrate.output
        with psycopg.connect(server.of_superuser(name)) as connection:
            assert connection.execute("SELECT FROM pg_roles WHERE rolname = 'nobodys'").fetchall() == []


def test_on_amps_own_database_in_a_schema_of_its_own(server: SecurePostgres, processes: Processes) -> None:
    """Amp's own role finds the schema by its search path, and ours by the one that they get. Nothing else changes."""
    worker, reader = "amp_worker", "amp_reader"
    owners_and_rights = """
        SELECT relname, relowner, has_database_privilege('public', current_database(), 'TEMP') FROM pg_class
        WHERE relnamespace = '"amp schema"'::regnamespace
    """
    settings = """
        SELECT rolname, setconfig FROM pg_db_role_setting JOIN pg_roles ON setrole = pg_roles.oid
        JOIN pg_database ON setdatabase = pg_database.oid WHERE datname = current_database()
    """
    with database(server) as name:
        superuser = server.of_superuser(name)
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute('CREATE SCHEMA "amp schema"')
            amp.migrate(superuser, amp.TODAYS, search_path='"amp schema"')
            before = set(connection.execute(owners_and_rights))
            for _ in range(2):
                assert grant(server, name, "-v owner=nobodys") == ""
            assert set(connection.execute(owners_and_rights)) == before
            assert connection.execute("SELECT FROM pg_roles WHERE rolname = 'nobodys'").fetchall() == []
            given = connection.execute(settings).fetchall()
            assert sorted(given) == [(role, ['search_path="amp schema"']) for role in (reader, worker)]
        set_passwords(server, worker, reader)
        joining = ("worker", "--node-id=w", "--join-amp-fleet")
        running = processes.ampd(*joining, database=server.of(worker, PASSWORD, name))
        running.says("registered as 'w'")
        show(server, processes, reader, name)
        # The superuser's search path does not contain the schema.
        refused = processes.ampd("worker", "--node-id=v", database=superuser)
        assert refused.wait() == 1
        assert "Amp's own (schema amp schema has the tables _sqlx_migrations and workers)" in refused.output
        lost = processes.ampd(*joining, database=superuser)
        lost.says("Amp's workers table is in schema amp schema, which is not on this role's search_path")
        migrate = processes.ampd("migrate", database=superuser)
        assert migrate.wait() == 0
        assert "schema amp schema has the tables _sqlx_migrations and workers" in migrate.output


def test_an_amp_database_without_its_table_gets_no_advice_to_migrate(server: SecurePostgres) -> None:
    with database(server) as name:
        with psycopg.connect(server.of_superuser(name), autocommit=True) as connection:
            for table in ("_sqlx_migrations", "jobs"):
                connection.execute(f"CREATE TABLE {table} (id bigint)".encode())
        warned = "Amp has not made its workers table yet: start Amp, or upgrade it, and then run this once more\n"
        assert grant(server, name) == warned


def test_a_right_that_is_missing_is_named_with_its_remedy(server: SecurePostgres, processes: Processes) -> None:
    """An upgrade of Amp may recreate a table."""
    with database(server) as name:
        amp.migrate(server.of_superuser(name), amp.TODAYS)
        assert grant(server, name) == ""
        set_passwords(server, "amp_worker")
        with psycopg.connect(server.of_superuser(name), autocommit=True) as connection:
            connection.execute("REVOKE ALL ON workers FROM amp_worker")
        url = server.of("amp_worker", PASSWORD, name)
        running = processes.ampd("worker", "--node-id=w", "--join-amp-fleet", database=url)
        running.says("permission denied for table workers. Run `ampd migrate --print-grants` again")
        assert grant(server, name) == ""
        running.says("registered as 'w'")


def test_connections_require_the_password_and_the_right_certificate(server: SecurePostgres, tmp_path: Path) -> None:
    with database(server) as name:
        grant(server, name)
        set_passwords(server, "amp_reader")
        good = server.of("amp_reader", PASSWORD, name)
        psycopg.connect(good).close()
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "another.pem"))
        for bad, reason in (
            (server.of("amp_reader", "another", name), "password authentication failed"),
            (good.replace(str(server.authority), str(tmp_path / "another.pem")), "certificate verify failed"),
            (good.replace("@localhost:", "@127.0.0.1:"), 'does not match host name "127.0.0.1"'),
        ):
            with pytest.raises(psycopg.OperationalError, match=reason):
                psycopg.connect(bad)


def test_row_level_security_is_mentioned(server: SecurePostgres, processes: Processes) -> None:
    with database(server) as name:
        assert processes.ampd("migrate", database=server.of_superuser(name)).wait() == 0
        with psycopg.connect(server.of_superuser(name), autocommit=True) as connection:
            connection.execute("ALTER TABLE workers ENABLE ROW LEVEL SECURITY")
            assert 'ALTER ROLE "amp_worker" BYPASSRLS; ALTER ROLE "amp_reader" BYPASSRLS;' in grant(server, name)
            connection.execute("ALTER ROLE amp_worker BYPASSRLS; ALTER ROLE amp_reader BYPASSRLS")
            assert grant(server, name) == ""
            connection.execute("ALTER ROLE amp_worker NOBYPASSRLS; ALTER ROLE amp_reader NOBYPASSRLS")
