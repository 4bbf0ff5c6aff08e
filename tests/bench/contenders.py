"""The databases and servers that are compared: durable PostgreSQL, and gunicorn with the shop's settings."""

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import text

from app import create_app
from app.database import db, transaction
from app.orders.seed import seed
from app.settings import Settings
from setup import postgres as programs
from tests.bench import forms
from tests.gateways.bank import free_port
from tests.postgres import Cluster

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = Path(__file__).with_name("limit.sql")
BARE_CONF = "tests/bench/bare_gunicorn.conf.py"
SECRET = "a secret of the bench, the same for all of its processes"
START = 30.0
"""Seconds within which a server must accept connections."""


class SeededDatabase:
    """A migrated and seeded database with `copies` of each product and enough stock for any bench."""

    def __init__(self, url: str, copies: int) -> None:
        settings = Settings(secret_key=SECRET, database_url=url.replace("postgresql:", "postgresql+psycopg2:"))
        self.app: Flask = create_app(settings)
        with self.app.app_context():
            upgrade()
            seed("EUR")
            forms.stock(copies)
            db.engine.dispose()


class ShopDatabase(SeededDatabase):
    """A database on which shops serve, and the number of payments that they confirmed."""

    def __init__(self, url: str, copies: int = 1) -> None:
        super().__init__(url, copies)
        self.paid = 0
        """The number of forms that were answered with 303. There must be as many charges, all of them succeeded."""

    def forms(self, count: int) -> list[bytes]:
        """Return forms that are ready to be sent."""
        return forms.forms(self.app, count)

    def charges(self) -> dict[str, int]:
        """Return the number of charges by status."""
        with self.app.app_context(), transaction() as tx:
            rows = tx.execute(text("SELECT status, count(*) AS number FROM charge GROUP BY status"))
            return {row.status: row.number for row in rows}


class DatabaseLimit(SeededDatabase):
    """PostgreSQL without any of our code, on a database that grows as the shop's does."""

    def __init__(self, cluster: Cluster, copies: int) -> None:
        self.cluster, self.database, self.kinds = cluster, cluster.create(name="limit"), copies * 10
        super().__init__(cluster.url(self.database), copies)

    def rate(self, clients: int, payments: int) -> float:
        """Return how often per second pgbench runs both transactions of the protocol."""
        each = max(1, payments // clients)
        with self.app.app_context():
            first = forms.orders(clients * each)[0][0]
        variables = {"first": first, "n": -1, "kinds": self.kinds}
        return self._pgbench(f"--client={clients}", f"--transactions={each}",
                             *(f"--define={name}={value}" for name, value in variables.items()))  # fmt: skip

    def _pgbench(self, *options: str) -> float:
        folder = programs.find()
        assert folder
        server = [f"--host={self.cluster.folder}", "--port=5432", f"--username={self.cluster.admin.username}"]
        command = [str(folder / "pgbench"), "--no-vacuum", f"--file={LIMIT}", *options, *server, self.database]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        rate = re.search(r"^tps = ([0-9.]+)", done.stdout, re.M)
        if done.returncode or rate is None:
            raise RuntimeError(f"pgbench failed: {done.stdout}{done.stderr}")
        return float(rate[1])


@contextmanager
def gunicorn(module: str, url: str, conf: str = "gunicorn.conf.py", bank: float = 0.0) -> Iterator[int]:
    """Serve `module` with gunicorn and yield the port. Workers never restart, which would be measured too."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", conf, "--bind", f"127.0.0.1:{port}", "--max-requests", "0"]
    env = os.environ | {"DATABASE_URL": url, "SECRET_KEY": SECRET, "BENCH_BANK_SECONDS": str(bank)}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*command, f"{module}:app"], cwd=ROOT, env=env, stdout=output, stderr=output)
        try:
            _wait_for(port, process, output)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", output: IO[Any]) -> None:
    """Wait until gunicorn accepts connections. Raises RuntimeError with its output if it does not."""
    end = monotonic() + START
    while process.poll() is None and monotonic() < end:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            sleep(0.1)
    output.seek(0)
    raise RuntimeError(f"gunicorn did not start:\n{output.read()}")
