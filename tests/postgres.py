"""Temporary PostgreSQL servers for the tests.

The whole session shares one cluster, including all pytest-xdist workers. It starts when the first test needs it and
is removed at the end of the session, even if the session is killed. Tests that restart or kill a server use
`private_postgres` instead: a cluster for one test.

If `TEST_DATABASE_URL` is set, that server replaces the shared cluster. Its user must be allowed to create databases.
Private clusters are created all the same.

A server listens only on a unix socket in a folder of its own with mode 0700, so two sessions never share one.
"""

import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy.engine import URL, make_url

from app import timeouts
from setup import postgres as programs

SESSION = "PAYONCE_TEST_POSTGRES"
"""The environment variable that names the folder of all clusters of one session.

The folder is in /tmp, because it contains the sockets, and the system limits a socket's path to about 100 bytes.
"""

SUPERUSER = "payonce"

CLEANER = "import sys; sys.stdin.read(); from tests.postgres import destroy_all; destroy_all({!r})"
"""A program that waits for the end of the session and then removes its clusters.

Its standard input is closed when the session ends, even if the session is killed.
"""

_names = (f"t{os.getpid()}_{n}" for n in itertools.count())


def _run_as() -> dict[str, Any]:
    """Return options for subprocess that run a program as `nobody` if we are root: initdb and postgres refuse root."""
    if os.geteuid():
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _give_to_server(folder: str) -> str:
    """Change the owner of an empty folder to the user that runs the server. Return the folder."""
    if user := _run_as():
        os.chown(folder, user["user"], user["group"])
    return folder


class Server:
    """A running server on which tests can create databases: a cluster of ours, or TEST_DATABASE_URL."""

    def __init__(self, admin: URL) -> None:
        self.admin = admin

    def url(self, database: str) -> str:
        """Return the URL of a database in the form of DATABASE_URL."""
        return self.admin.set(database=database).render_as_string(hide_password=False)

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser, outside any transaction. Return its rows."""
        dsn = self.admin.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg2.connect(dsn)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def create(self, template: str = "template0", name: str | None = None) -> str:
        """Create a database and return its name. It is a copy of `template`, which must have no connections."""
        name = name or next(_names)
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop(self, database: str) -> None:
        """Drop a database, even if there are connections to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def terminate(self, database: str) -> int:
        """Break every connection to a database. Return the number of connections."""
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        return len(self.execute(kill, database))


class Cluster(Server):
    """A cluster in a folder of its own."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.data = self.folder / "data"
        query = {"host": folder, "port": "5432"}
        super().__init__(URL.create("postgresql+psycopg2", SUPERUSER, database="postgres", query=query))

    @classmethod
    def make(cls) -> "Cluster":
        """Return a cluster in a new empty folder. It must then be initialised and started."""
        return cls(_give_to_server(tempfile.mkdtemp(prefix="pg-", dir=os.environ.get(SESSION, "/tmp"))))

    def initialise(self, durable: bool = False) -> None:
        """Run initdb and write the settings. Without `durable`, fsync is off: fast, but data is lost in a power cut."""
        flags = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={SUPERUSER}"]
        self._program("initdb", f"--pgdata={self.data}", *flags)
        settings = ["listen_addresses=''", f"unix_socket_directories='{self.folder}'", "max_connections=200"]
        # `db upgrade` sets these per database, and databases that are copied from a template do not inherit them.
        settings += [f"{name}={milliseconds}" for name, milliseconds in timeouts.MILLISECONDS.items()]
        settings += ["shared_buffers=64MB", f"fsync={'on' if durable else 'off'}", "timezone='UTC'"]
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(settings) + "\n")

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._control("start", "--log", str(self.folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """Stop the server. "fast" ends all connections and shuts down cleanly; "immediate" is like a crash."""
        self._control("stop", f"--mode={mode}")

    def restart(self, mode: str = "fast") -> None:
        """Stop the server and start it again with the same data."""
        self.stop(mode)
        self.start()

    def destroy(self) -> None:
        """Stop the server if it runs, and remove its folder. Never raises."""
        if (self.data / "postmaster.pid").exists():
            with contextlib.suppress(RuntimeError):
                self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, verb: str, *args: str) -> None:
        self._program("pg_ctl", verb, f"--pgdata={self.data}", "--wait", "--timeout=60", *args)

    def _program(self, name: str, *args: str) -> None:
        """Run one of PostgreSQL's programs. Raises RuntimeError with its output if it fails."""
        # The output goes to a file, because a server that pg_ctl starts would keep a pipe open as long as it runs.
        with tempfile.TemporaryFile() as output:
            command = self._command(name, *args)
            code = subprocess.call(command, stdout=output, stderr=subprocess.STDOUT, **self._options())
            if code:
                output.seek(0)
                raise RuntimeError(f"{name} failed: {output.read().decode(errors='replace')}")

    def _command(self, name: str, *args: str) -> list[str]:
        return [str(self._binaries() / name), *args]

    def _options(self) -> dict[str, Any]:
        return {"cwd": self.folder, "stdin": subprocess.DEVNULL, **_run_as()}

    def _binaries(self) -> Path:
        """Return the folder of the programs. They are copied if `nobody` can't read them in their own folder."""
        found = programs.find()
        if found is None:
            raise RuntimeError("PostgreSQL is not installed; run: python -m setup.postgres")
        is_executable = ["test", "-x", str(found / "postgres")]
        if subprocess.run(is_executable, **_run_as()).returncode == 0:
            return found
        return _copied(found, self.folder / "programs")


def _copied(binaries: Path, target: Path) -> Path:
    """Copy the wheel's programs, with the libraries that they load from three folders up. Return the new folder."""
    site, package = binaries.parents[2], binaries.parents[1].name
    if not target.exists():
        for part in (f"{package}/pginstall", f"{package}.libs"):
            shutil.copytree(site / part, target / part)
    return target / package / "pginstall" / "bin"


def destroy_all(session: str) -> None:
    """Destroy every cluster of a session and remove the session's folder."""
    for folder in Path(session).iterdir():
        Cluster(str(folder)).destroy()
    shutil.rmtree(session, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Create the session's folder and start the cleaner, in the session's first process only."""
    if hasattr(config, "workerinput") or SESSION in os.environ:
        return
    session = tempfile.mkdtemp(prefix="payonce-", dir="/tmp")
    Path(session).chmod(0o711)
    os.environ[SESSION] = session
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", CLEANER.format(session)]
    # In a process group of its own, so that Ctrl-C in the terminal does not end the cleaner.
    cleaner = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root, start_new_session=True)
    config.add_cleanup(lambda: _wait_for(cleaner))


def _wait_for(cleaner: "subprocess.Popen[bytes]") -> None:
    """Let the cleaner begin, and wait until it has finished."""
    assert cleaner.stdin
    cleaner.stdin.close()
    cleaner.wait(timeout=60)
    os.environ.pop(SESSION, None)


def _shared_cluster() -> Cluster:
    """Return the session's cluster. The first worker starts it; the others wait until it runs."""
    session = Path(os.environ[SESSION])
    cluster = Cluster(str(session / "shared"))
    with (session / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cluster.folder.exists():
            cluster.folder.mkdir(mode=0o700)
            _give_to_server(str(cluster.folder))
            cluster.initialise()
            cluster.start()
    return cluster


@pytest.fixture(scope="session")
def postgres() -> Server:
    """Return a running server that all tests share. A test may create databases on it, but must not stop it."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        return Server(make_url(url).set(drivername="postgresql+psycopg2"))
    return _shared_cluster()


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """Yield the URL of a new empty database for one test."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@contextlib.contextmanager
def private_cluster(durable: bool = True) -> Iterator[Cluster]:
    """Yield a running cluster that the caller may restart or break. It is removed at the end."""
    cluster = Cluster.make()
    try:
        cluster.initialise(durable)
        cluster.start()
        yield cluster
    finally:
        cluster.destroy()


@pytest.fixture
def private_postgres() -> Iterator[Cluster]:
    """Yield a `private_cluster` for one test."""
    with private_cluster() as cluster:
        yield cluster
