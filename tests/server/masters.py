"""gunicorn's processes, found by /proc: the master, its workers, and the new master after SIGUSR2."""

import contextlib
import os
import signal
from pathlib import Path

from tests.gateways.bank import until
from tests.processes.running import RunningShop


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children, or none if it has ended."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def upgrade(shop: RunningShop) -> int:
    """Send SIGUSR2 and wait until the new master has its workers. Return the new master's process id."""
    assert shop.process
    before = set(children(shop.process.pid))
    found: list[int] = []

    def has_workers() -> bool:
        assert shop.process
        found[:] = [
            pid for pid in children(shop.process.pid) if pid not in before and len(children(pid)) >= shop.workers
        ]
        return bool(found) and shop.log.read_text().count("Booting worker") >= 2 * shop.workers

    shop.process.send_signal(signal.SIGUSR2)
    until(has_workers, 60)
    return found[0]


def end(pid: int, how: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal to a process that is not our child, and wait until it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
    until(lambda: not is_running(pid), 60)
