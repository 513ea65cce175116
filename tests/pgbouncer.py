"""Debian's PgBouncer in transaction mode, in front of a PostgreSQL of the tests."""

import os
from pathlib import Path

from amp_workers.metadata_db.embedded import EmbeddedPostgres, account
from tests.processes import Process, Processes, free_port, tool


def start_pgbouncer(
    processes: Processes,
    postgres: EmbeddedPostgres,
    directory: Path,
    *,
    pool_size: int = 20,
    pool_mode: str = "transaction",
    role: str = "postgres",
) -> int:
    """Return the port of a PgBouncer that connects all clients as one role, PostgreSQL's superuser by default."""
    port = free_port()
    sockets = postgres.url.rpartition("host=")[2]
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        f"""
        [databases]
        * = host={sockets} user={role}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = {pool_mode}
        default_pool_size = {pool_size}
        max_client_conn = 20000
        server_login_retry = 1
        """.replace("\n        ", "\n")
    )
    # PgBouncer refuses to run as root, and the socket belongs to PostgreSQL's account.
    identity = ["-u", account().name] if os.geteuid() == 0 else []
    process: Process = processes.start(tool("pgbouncer"), *identity, str(configuration))
    process.says("process up")
    return port
