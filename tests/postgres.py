"""Throw-away PostgreSQL for the tests.

One cluster is shared by the whole session, all of its pytest-xdist workers included; it starts when the
first test asks for it and ends with the session, however that ends. Each test gets a database of its own.
Tests that restart or kill a server take `private_postgres`: a cluster that nobody else uses.

`TEST_DATABASE_URL` names a server to use instead of the shared one (its user must be allowed to create
databases); private clusters are made all the same.

The server runs on a unix socket in a folder of mode 0700, so two sessions never meet.
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

# Names the folder of all clusters of one session. A cluster's folder holds its socket, whose path the
# system limits to about 100 bytes: so it is in /tmp.
SESSION = "PAYONCE_TEST_POSTGRES"
SUPERUSER = "payonce"
# Waits for the session's end (its stdin closes, also when the session is killed), then cleans up.
GUARD = "import sys; sys.stdin.read(); from tests.postgres import destroy_all; destroy_all({!r})"
_names = (f"t{os.getpid()}_{n}" for n in itertools.count())


def _run_as() -> dict[str, Any]:
    """initdb and postgres refuse root: as root they run as `nobody`."""
    if os.geteuid():
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _owned(folder: str) -> str:
    """Give an empty folder to whom the server runs as."""
    if user := _run_as():
        os.chown(folder, user["user"], user["group"])
    return folder


class Server:
    """Somewhere databases can be made: a cluster of ours, or the one that TEST_DATABASE_URL names."""

    def __init__(self, admin: URL) -> None:
        self.admin = admin

    def url(self, database: str) -> str:
        """The address of one database, as DATABASE_URL takes it."""
        return self.admin.set(database=database).render_as_string(hide_password=False)

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """One statement as the superuser, outside any transaction."""
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
        """Make a database (a copy of `template`, which nobody may be connected to); its name."""
        name = name or next(_names)
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop(self, database: str) -> None:
        """Drop it, whoever is still connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def terminate(self, database: str) -> int:
        """Break every connection to a database, as an administrator would; how many there were."""
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        return len(self.execute(kill, database))


class Cluster(Server):
    """A cluster in a folder of its own. `durable=False` skips fsync: right unless power cuts are the test."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.data = self.folder / "data"
        query = {"host": folder, "port": "5432"}
        super().__init__(URL.create("postgresql+psycopg2", SUPERUSER, database="postgres", query=query))

    @classmethod
    def make(cls) -> "Cluster":
        """A new empty folder, the session's if there is one; nothing runs yet."""
        return cls(_owned(tempfile.mkdtemp(prefix="pg-", dir=os.environ.get(SESSION, "/tmp"))))

    def initialise(self, durable: bool = False) -> None:
        """initdb, and the settings: a socket only, room for many workers."""
        flags = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={SUPERUSER}"]
        self._program("initdb", f"--pgdata={self.data}", *flags)
        settings = ["listen_addresses=''", f"unix_socket_directories='{self.folder}'", "max_connections=200"]
        # What `db upgrade` sets for its role: databases that are copied from a template do not inherit it.
        settings += [f"{name}={milliseconds}" for name, milliseconds in timeouts.MILLISECONDS.items()]
        settings += ["shared_buffers=64MB", f"fsync={'on' if durable else 'off'}", "timezone='UTC'"]
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(settings) + "\n")

    def start(self) -> None:
        """Start and wait until it answers."""
        self._control("start", "--log", str(self.folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """`fast` breaks connections and stops in order; `immediate` stops as a crash would."""
        self._control("stop", f"--mode={mode}")

    def restart(self, mode: str = "fast") -> None:
        """Stop, and start again with the same data."""
        self.stop(mode)
        self.start()

    def destroy(self) -> None:
        """Stop it if it runs, and remove its folder; never fails."""
        if (self.data / "postmaster.pid").exists():
            with contextlib.suppress(RuntimeError):
                self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, verb: str, *words: str) -> None:
        self._program("pg_ctl", verb, f"--pgdata={self.data}", "--wait", "--timeout=60", *words)

    def _program(self, name: str, *words: str) -> None:
        """Run one of PostgreSQL's programs; what it said is in the error if it fails."""
        # To a file, not a pipe: a server that pg_ctl leaves behind would keep a pipe open for ever.
        with tempfile.TemporaryFile() as said:
            command = self._command(name, *words)
            code = subprocess.call(command, stdout=said, stderr=subprocess.STDOUT, **self._options())
            if code:
                said.seek(0)
                raise RuntimeError(f"{name} failed: {said.read().decode(errors='replace')}")

    def _command(self, name: str, *words: str) -> list[str]:
        return [str(self._binaries() / name), *words]

    def _options(self) -> dict[str, Any]:
        return {"cwd": self.folder, "stdin": subprocess.DEVNULL, **_run_as()}

    def _binaries(self) -> Path:
        """The programs' folder; copied here where `nobody` may not look into the checkout."""
        found = programs.find()
        if found is None:
            raise RuntimeError("No PostgreSQL programs here: `python -m setup.postgres` gets them.")
        reachable = ["test", "-x", str(found / "postgres")]
        if subprocess.run(reachable, **_run_as()).returncode == 0:
            return found
        return _copied(found, self.folder / "programs")


def _copied(binaries: Path, target: Path) -> Path:
    """The wheel's programs somewhere else, with the libraries that they look for three folders up."""
    site, package = binaries.parents[2], binaries.parents[1].name
    if not target.exists():
        for part in (f"{package}/pginstall", f"{package}.libs"):
            shutil.copytree(site / part, target / part)
    return target / package / "pginstall" / "bin"


def destroy_all(session: str) -> None:
    """End every cluster of a session, and remove its folder."""
    for folder in Path(session).iterdir():
        Cluster(str(folder)).destroy()
    shutil.rmtree(session, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """In the session's first process: make its folder, and the guard that outlives the session."""
    if hasattr(config, "workerinput") or SESSION in os.environ:
        return
    session = tempfile.mkdtemp(prefix="payonce-", dir="/tmp")
    Path(session).chmod(0o711)
    os.environ[SESSION] = session
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", GUARD.format(session)]
    # A session of its own, so that Ctrl-C at the terminal does not end the guard first.
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root, start_new_session=True)
    config.add_cleanup(lambda: _dismiss(guard))


def _dismiss(guard: "subprocess.Popen[bytes]") -> None:
    """Let the guard do its work and see it done."""
    assert guard.stdin
    guard.stdin.close()
    guard.wait(timeout=60)
    os.environ.pop(SESSION, None)


def _shared_cluster() -> Cluster:
    """The session's cluster; the first worker that comes here starts it, the others wait for that."""
    session = Path(os.environ[SESSION])
    cluster = Cluster(str(session / "shared"))
    with (session / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cluster.folder.exists():
            cluster.folder.mkdir(mode=0o700)
            _owned(str(cluster.folder))
            cluster.initialise()
            cluster.start()
    return cluster


@pytest.fixture(scope="session")
def postgres() -> Server:
    """A running server that other tests use too: make databases, never stop it."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        return Server(make_url(url).set(drivername="postgresql+psycopg2"))
    return _shared_cluster()


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """A new empty database for one test, as DATABASE_URL takes it."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@contextlib.contextmanager
def private_cluster(durable: bool = True) -> Iterator[Cluster]:
    """A cluster of one's own, to restart and to break; gone at the end."""
    cluster = Cluster.make()
    try:
        cluster.initialise(durable)
        cluster.start()
        yield cluster
    finally:
        cluster.destroy()


@pytest.fixture
def private_postgres() -> Iterator[Cluster]:
    """`private_cluster` as a fixture."""
    with private_cluster() as cluster:
        yield cluster
