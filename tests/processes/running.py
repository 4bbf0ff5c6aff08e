"""The shop as processes: gunicorn with its own settings over one database, and a bank beside it."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, create_engine, text

from tests.factories import SECRET
from tests.gateways.bank import ROOT, RunningBank, free_port, until
from tests.page import Shopper

COMMAND = (sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")


@dataclass
class RunningShop:
    """One gunicorn. `log` holds everything that it ever printed."""

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
        bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        ours = {
            "SECRET_KEY": SECRET, "DATABASE_URL": self.database_url, "SANDBOX_BANK_URL": self.bank_url,
            "PORT": str(self.port), "WEB_CONCURRENCY": str(self.workers), "GATEWAY_DEADLINE": "30",
            "SANDBOX_DATABASE_URL": f"sqlite:///{self.folder}/never.sqlite", "MAIL_FOLDER": f"{self.folder}/outbox",
        }  # fmt: skip
        return {name: value for name, value in (bare | ours | self.settings).items() if value}

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start it; whether it comes up is another question."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                COMMAND, cwd=ROOT, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def start(self) -> "RunningShop":
        """Start it and wait until it answers."""
        process = self.spawn()

        def answers() -> bool:
            assert process.poll() is None, self.log.read_text()
            try:
                return httpx.get(f"{self.url}/healthz", timeout=10, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        until(answers, 60)
        return self

    def stop(self) -> int:
        """SIGTERM, as an operator would; its exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def shopper(self) -> Shopper:
        """A new browser on real sockets."""
        return Shopper(httpx.Client(base_url=self.url, trust_env=False, timeout=60))


@dataclass
class Town:
    """Two gunicorns of one database, and their bank: `shop` with two workers, `branch` with one."""

    shop: RunningShop
    branch: RunningShop
    bank: RunningBank
    engine: Engine

    @classmethod
    def open(cls, database_url: str, bank: RunningBank, folder: Path) -> "Town":
        shops = [RunningShop(database_url, bank.url, folder, workers) for workers in (2, 1)]
        for shop in shops:
            shop.start()
        return cls(*shops, bank, create_engine(database_url))

    def close(self) -> None:
        for shop in (self.shop, self.branch):
            shop.stop()
        self.engine.dispose()

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """What is stored, by plain SQL."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), values).all())

    def charges_of(self, email: str) -> list[Any]:
        """The charges under this address: status, amount and token."""
        return self.rows("SELECT status, amount, key FROM charge WHERE email = :email", email=email)

    def said(self) -> str:
        """All that the two shops ever printed."""
        return self.shop.log.read_text() + self.branch.log.read_text()
