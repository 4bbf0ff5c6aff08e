"""The shop as it is deployed: gunicorn and the recovery worker as processes that are reached over TCP."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.ending import with_parent
from tests.factories import API_KEY, SECRET, SHOP_ID
from tests.gateways.bank import ROOT, free_port, until

DEADLINE = 2.0
"""GATEWAY_DEADLINE of these shops, in seconds."""

WORKERS = 2


@dataclass
class LiveShop:
    """The processes of one shop, by name. Each runs in its own process group."""

    database_url: str
    bank_url: str
    folder: Path
    worker_count: int = WORKERS
    port: int = field(default_factory=free_port)
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        """Start gunicorn as in the Procfile and wait until it is ready."""
        self._start("shop", "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")
        until(self.is_ready, 60)

    def recover(self, name: str = "recovery") -> None:
        """Start a recovery worker."""
        self._start(name, "-m", "flask", "--app", "wsgi", "recover", "--watch")

    def kill(self, name: str) -> None:
        """Send SIGKILL to one process and wait for its end."""
        process = self.running.pop(name)
        process.kill()
        process.wait(timeout=30)

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False).status_code == 200
        return False

    def workers(self) -> list[int]:
        """Return the process ids of gunicorn's workers at this moment, which are its master's children."""
        master = self.running["shop"].pid
        with contextlib.suppress(OSError):
            return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
        return []

    def kill_worker(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> dict[str, int]:
        """Send SIGTERM to all processes. Return their exit codes by name."""
        for process in self.running.values():
            process.terminate()
        return {name: process.wait(timeout=60) for name, process in self.running.items()}

    def kill_all(self) -> None:
        """Send SIGKILL to every process that still runs."""
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)

    def _start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=self._env(), stdout=log, stderr=log, start_new_session=True,
                preexec_fn=with_parent,
            )  # fmt: skip

    def _env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {
            "PORT": str(self.port), "SECRET_KEY": SECRET, "DATABASE_URL": self.database_url,
            "SANDBOX_BANK_URL": self.bank_url, "SANDBOX_API_KEY": API_KEY, "SHOP_ID": SHOP_ID,
            "GATEWAY_DEADLINE": str(DEADLINE), "WEB_CONCURRENCY": str(self.worker_count),
            "GUNICORN_THREADS": "8", "MAIL_FOLDER": str(self.folder / "outbox"),
        }  # fmt: skip


@contextlib.contextmanager
def live_shop(database_url: str, bank_url: str, folder: Path) -> Iterator[LiveShop]:
    """Yield a shop that is ready, and kill its processes when the block ends."""
    live = LiveShop(database_url, bank_url, folder)
    try:
        live.serve()
        yield live
    finally:
        live.kill_all()
