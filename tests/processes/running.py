"""The shop as processes: gunicorn with the project's settings, a database and a bank."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, create_engine, text

from tests.factories import API_KEY, SECRET, SHOP_ID
from tests.gateways.bank import ROOT, RunningBank, free_port, until
from tests.page import Shopper

COMMAND = (str(Path(sys.executable).with_name("gunicorn")), "-c", "gunicorn.conf.py", "wsgi:app")
"""As in the Procfile. With `python -m gunicorn`, SIGUSR2 would not find Python's own package `http`."""


@dataclass
class RunningShop:
    """One gunicorn. The file `log` contains everything that it has printed."""

    database_url: str
    bank_url: str
    folder: Path
    workers: int = 2
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / f"shop-{self.port}.log"

    @property
    def environ(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {
            "SECRET_KEY": SECRET, "DATABASE_URL": self.database_url, "SANDBOX_BANK_URL": self.bank_url,
            "SANDBOX_API_KEY": API_KEY, "SHOP_ID": SHOP_ID, "PORT": str(self.port),
            "WEB_CONCURRENCY": str(self.workers), "GATEWAY_DEADLINE": "30",
            "SANDBOX_DATABASE_URL": f"sqlite:///{self.folder}/never.sqlite", "MAIL_FOLDER": f"{self.folder}/outbox",
        }  # fmt: skip
        return {name: value for name, value in (inherited | own | self.settings).items() if value}

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start gunicorn without waiting until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                COMMAND, cwd=ROOT, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def start(self) -> "RunningShop":
        """Start gunicorn and wait until it is ready."""
        process = self.spawn()

        def is_healthy() -> bool:
            assert process.poll() is None, self.log.read_text()
            try:
                return httpx.get(f"{self.url}/healthz", timeout=10, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        until(is_healthy, 60)
        return self

    def stop(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def shopper(self) -> Shopper:
        """Return a new shopper whose requests use real sockets."""
        return Shopper(httpx.Client(base_url=self.url, trust_env=False, timeout=60))


@dataclass
class Deployment:
    """Two gunicorns on one database, and their bank. `shop` has two workers, `second_shop` has one."""

    shop: RunningShop
    second_shop: RunningShop
    bank: RunningBank
    engine: Engine

    @classmethod
    def start(cls, database_url: str, bank: RunningBank, folder: Path) -> "Deployment":
        shops = [RunningShop(database_url, bank.url, folder, workers) for workers in (2, 1)]
        for shop in shops:
            shop.start()
        return cls(*shops, bank, create_engine(database_url))

    def stop(self) -> None:
        for shop in (self.shop, self.second_shop):
            shop.stop()
        self.engine.dispose()

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """Return the result of an SQL query on the shops' database."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), values).all())

    def charges_of(self, email: str) -> list[Any]:
        """Return (status, amount, key) of every charge with this e-mail address."""
        return self.rows("SELECT status, amount, key FROM charge WHERE email = :email", email=email)

    def output(self) -> str:
        """Return everything that the two shops have printed."""
        return self.shop.log.read_text() + self.second_shop.log.read_text()
