"""Programs that run under `keeper.py`: they end with the test, also if the test is killed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.failover.keeper import descendants
from tests.gateways.bank import until
from tests.postgres import _run_as

KEEPER = str(Path(__file__).with_name("keeper.py"))


@dataclass
class Program:
    """One program and all its descendants. The file `log` contains everything that it has printed.

    With `plug` it gets a network namespace of its own, and `plug` is called with the pid of a process in it.
    """

    command: Sequence[str]
    log: Path
    plug: Callable[[int], None] | None = None
    keeper: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    main: int = field(default=0, init=False)
    """The pid of the program itself."""

    def start(self) -> None:
        """Start it as the user that runs PostgreSQL, because PostgreSQL refuses root. Do not wait until it is ready."""
        ids = _run_as()
        user = f"{ids['user']}:{ids['group']}" if ids else ""
        network = ["--network"] if self.plug else []
        with self.log.open("ab") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, KEEPER, *network, user, *self.command], cwd="/tmp", stderr=log,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=self._env(),
            )  # fmt: skip
        assert self.keeper.stdin and self.keeper.stdout
        assert self.keeper.stdout.readline() == b"ready\n", self.log.read_text()
        if self.plug:
            self.plug(self.keeper.pid)
        self.keeper.stdin.write(b"go\n")
        self.keeper.stdin.flush()
        until(self.pids)
        self.main = self.pids()[0]

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.log.parent), "LANG": "C"}

    def pids(self) -> list[int]:
        """Return the pids of the program and of its descendants."""
        return descendants(self.keeper.pid) if self.keeper else []

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to each of them."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self) -> None:
        """Kill them all at once, and wait for their end. Nothing may be left that still writes."""
        if self.keeper is None:
            return
        self.signal(signal.SIGSTOP)  # So that no child is started meanwhile.
        assert self.keeper.stdin and self.keeper.stdout
        self.keeper.stdin.close()
        self.keeper.stdout.close()
        self.keeper.wait(timeout=60)
        self.keeper = None
