"""The shop as it is deployed: gunicorn and the recovery worker as processes, asked over TCP."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.factories import SECRET
from tests.gateways.bank import ROOT, free_port, until

DEADLINE = 2.0
"""GATEWAY_DEADLINE of these shops (seconds)."""

WORKERS = 2


@dataclass
class Processes:
    """One shop's processes. They end with the test, by their own process groups and nobody else's."""

    database_url: str
    bank_url: str
    folder: Path
    port: int = field(default_factory=free_port)
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        """Start the shop as in the Procfile and wait until it is ready."""
        self._start("shop", "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")
        until(self.ready, 60)

    def recover(self, name: str = "recovery") -> None:
        """Start one more recovery worker."""
        self._start(name, "-m", "flask", "--app", "wsgi", "recover", "--watch")

    def kill(self, name: str) -> None:
        """SIGKILL to one process."""
        process = self.running.pop(name)
        process.kill()
        process.wait(timeout=30)

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False).status_code == 200
        return False

    def workers(self) -> list[int]:
        """The pids of gunicorn's workers at this moment: its master's children."""
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
        """SIGTERM to all, as an operator would; the exit codes by name."""
        for process in self.running.values():
            process.terminate()
        return {name: process.wait(timeout=60) for name, process in self.running.items()}

    def end(self) -> None:
        """SIGKILL to whatever still runs."""
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)

    def _start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=self._env(), stdout=log, stderr=log, start_new_session=True
            )

    def _env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {
            "PORT": str(self.port), "SECRET_KEY": SECRET, "DATABASE_URL": self.database_url,
            "SANDBOX_BANK_URL": self.bank_url, "GATEWAY_DEADLINE": str(DEADLINE), "WEB_CONCURRENCY": str(WORKERS),
            "GUNICORN_THREADS": "8", "MAIL_FOLDER": str(self.folder / "outbox"),
        }  # fmt: skip


@contextlib.contextmanager
def served(database_url: str, bank_url: str, folder: Path) -> Iterator[Processes]:
    """A shop that serves, gone at the end, however it ends."""
    processes = Processes(database_url, bank_url, folder)
    try:
        processes.serve()
        yield processes
    finally:
        processes.end()
