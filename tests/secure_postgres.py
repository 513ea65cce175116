"""A PostgreSQL on TCP that requires TLS and a password: Debian's, which is older, or the embedded one."""

import os
import select
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import trustme

from amp_workers.metadata_db.embedded import account, find_place
from tests.processes import Processes, free_port, tool

DEBIANS, EMBEDDED = 15, 18

_SSL_REQUEST = (80877103).to_bytes(4)


@dataclass(frozen=True)
class SecurePostgres:
    """The address of a server."""

    programs: Path
    """The directory that contains psql."""

    sockets: Path
    port: int
    tls_port: int
    authority: Path
    """The certificate of the authority that signed the server's certificate."""

    def of_superuser(self, database: str) -> str:
        return f"postgresql://postgres@/{quote(database, safe='')}?host={self.sockets}&port={self.port}"

    def of(self, role: str, password: str, database: str) -> str:
        """Return the URL of a role over TCP and TLS, with full verification."""
        role, password, database = (quote(each, safe="") for each in (role, password, database))
        tls = f"sslmode=verify-full&sslrootcert={self.authority}"
        return f"postgresql://{role}:{password}@localhost:{self.tls_port}/{database}?{tls}"


@contextmanager
def secure_postgres(version: int, directory: Path, processes: Processes) -> Iterator[SecurePostgres]:
    """Run a PostgreSQL of a version: DEBIANS or EMBEDDED."""
    owner = account()
    embedded = find_place(directory / "embedded", owner).programs
    programs, environment = _debians(directory) if version == DEBIANS else (embedded, {})
    data, authority = directory / "data", trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(directory / "authority.pem"))
    data.mkdir(mode=0o700)
    for each in (directory, data):
        os.chown(each, owner.uid, owner.gid)
    identity = [] if owner.is_ours else ["setpriv", f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups"]
    initdb = [str(programs / "initdb"), f"--pgdata={data}", "--username=postgres", "--auth=trust", "--no-locale"]
    made = processes.start(*identity, *initdb, "--encoding=UTF8", cwd=directory, env=environment)
    assert made.wait(60) == 0, made.output
    # The build in the wheel has no TLS: a proxy in front of the server provides it.
    knows_tls = version == DEBIANS
    port, tls_port = free_port(), free_port()
    with (data / "postgresql.conf").open("a") as file:
        file.write(f"listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{directory}'\n")
        file.write(f"ssl = {'on' if knows_tls else 'off'}\n")
    (data / "pg_hba.conf").write_text(
        f"local all all trust\n{'hostssl' if knows_tls else 'host'} all all 127.0.0.1/32 scram-sha-256\n"
    )
    certificate.cert_chain_pems[0].write_to_path(str(data / "server.crt"))
    certificate.private_key_pem.write_to_path(str(data / "server.key"))
    os.chown(data / "server.key", owner.uid, owner.gid)
    (data / "server.key").chmod(0o600)
    (data / "server.crt").chmod(0o644)
    postgres = processes.start(*identity, str(programs / "postgres"), "-D", str(data), cwd=directory, env=environment)
    postgres.says("ready to accept connections", 60)
    server = SecurePostgres(embedded, directory, port, port if knows_tls else tls_port, directory / "authority.pem")
    with psycopg.connect(server.of_superuser("postgres")) as connection:
        assert connection.info.server_version // 10_000 == version
    if knows_tls:
        yield server
    else:
        with tls_in_front(tls_port, port, certificate):
            yield server


def _debians(directory: Path) -> tuple[Path, dict[str, str]]:
    """Return the directory of Debian's programs, and the environment that they need.

    They are copied if PostgreSQL's account cannot reach them, for example below a closed home.
    """
    programs = Path(tool("postgres")).parent
    if account().can_enter(programs):
        return programs, {}
    # Statements run for milliseconds, so JIT compilation is useless, and its library is the largest of all.
    unneeded = shutil.ignore_patterns("libLLVM*", "llvmjit*", "doc", "man", "locale", "prometheus*")
    shutil.copytree(programs.parent / "root", directory / "root", symlinks=True, ignore=unneeded)
    (directory / "root").chmod(0o755)
    libraries = sorted({str(each.parent) for each in (directory / "root").rglob("*.so*")})
    (initdb,) = (directory / "root").rglob("initdb")
    return initdb.parent, {"LD_LIBRARY_PATH": ":".join(libraries)}


@contextmanager
def tls_in_front(port: int, target: int, certificate: trustme.LeafCert) -> Iterator[None]:
    """Provide TLS for a server on 127.0.0.1, as PostgreSQL itself does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    with socket.create_server(("127.0.0.1", port)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=serve, args=(client,), daemon=True).start()

        def serve(client: socket.socket) -> None:
            # A client that trusts another authority, or that was killed, closes the connection.
            with suppress(OSError), client, socket.create_connection(("127.0.0.1", target)) as server:
                while client.recv(8)[4:] != _SSL_REQUEST:
                    client.sendall(b"N")  # the request for GSSAPI, which a client sends first
                client.sendall(b"S")
                with context.wrap_socket(client, server_side=True) as secured:
                    _pass_on(secured, server)

        threading.Thread(target=accept, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def _pass_on(secured: ssl.SSLSocket, server: socket.socket) -> None:
    while True:
        readable = [secured] if secured.pending() else select.select([secured, server], [], [])[0]
        for each in readable:
            data = each.recv(65536)
            if not data:
                return
            (server if each is secured else secured).sendall(data)
