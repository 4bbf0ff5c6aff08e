"""A real redis-server for tests, to be frozen and killed: a process on a free loopback port that stores nothing."""

import contextlib
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis

from setup import redis as programs
from tests.gateways.bank import free_port, until

TRIES = 5
"""Another process may take a free port first; then the next one is tried."""


@dataclass
class RedisServer:
    """One redis-server. Nothing survives its end."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Return its address, as LIMITS_STORAGE_URL takes it."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        for _ in range(TRIES):
            self.process = subprocess.Popen(self._command(), cwd=self.folder)
            until(lambda: self._answers() or self._ended())
            if not self._ended():
                return
            self.port = free_port()
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        """Send SIGKILL and wait for the end, as after a power cut: connections break, new ones are refused."""
        assert self.process
        self.process.kill()
        self.process.wait(timeout=30)

    def freeze(self) -> None:
        """Send SIGSTOP: the kernel still accepts connections, and nobody answers on them."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT and wait until it answers again."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)
        until(self._answers)

    def _command(self) -> list[str]:
        program = programs.find()
        assert program, "`python -m setup.redis` installs redis-server"
        options = {"bind": "127.0.0.1", "port": self.port, "save": "", "appendonly": "no", "dir": self.folder,
                   "logfile": self.folder / "log"}  # fmt: skip
        return [str(program), *(str(word) for name, value in options.items() for word in (f"--{name}", value))]

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis(port=self.port, socket_timeout=5) as client:
            return bool(client.ping())
        return False

    def _ended(self) -> bool:
        assert self.process
        return self.process.poll() is not None


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Yield a running server in a temporary folder. It is killed by its process id in the end."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            if server.process and server.process.poll() is None:
                server.kill()  # SIGKILL also ends a frozen process.
