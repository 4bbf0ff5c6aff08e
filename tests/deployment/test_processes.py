"""The Procfile's processes stop in order, and each gets the time that it needs."""

import os
import sys
import time
from pathlib import Path

import pytest

from setup.processes import STOPPING, Processes
from setup.run import commands

pytestmark = pytest.mark.slow

# On SIGTERM it works for half a second, writes its name to a file and ends.
CLEAN = """
import signal, sys, time
def stop(*_):
    time.sleep(0.5)
    print("done", flush=True)
    open(sys.argv[1], "a").write(sys.argv[2] + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[0] + ".ready." + sys.argv[2], "w")
signal.pause()
"""
IGNORES_SIGTERM = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[0] + ".ready", "w")
while True: time.sleep(60)
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    (tmp_path / "clean.py").write_text(CLEAN)
    (tmp_path / "ignores_sigterm.py").write_text(IGNORES_SIGTERM)
    return tmp_path


def start(folder: Path, ready: int, **commands: str) -> Processes:
    """Start scripts as processes, and wait until `ready` of them have installed their signal handlers."""
    lines = {name: f"{sys.executable} {folder}/{command}" for name, command in commands.items()}
    processes = Processes(lines, dict(os.environ), folder)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.ready*"))) < ready:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return processes


def test_the_bank_stops_after_the_shop(scripts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stopped = scripts / "stopped"
    processes = start(scripts, 2, bank=f"clean.py {stopped} bank", shop=f"clean.py {stopped} shop")
    processes.stop(patience=20)
    assert stopped.read_text().split() == ["shop", "bank"]
    assert "shop     | done" in capfd.readouterr().out


def test_a_process_that_does_not_stop_is_killed(scripts: Path) -> None:
    processes = start(scripts, 1, shop="ignores_sigterm.py")
    processes.stop(patience=0.2)
    assert processes.running["shop"].wait(timeout=10) == -9


def test_the_first_process_that_ends_is_named(scripts: Path) -> None:
    processes = start(scripts, 1, shop="ignores_sigterm.py", bank="missing.py")
    assert processes.wait() == "bank"
    assert processes.running["bank"].returncode == 2
    processes.stop(patience=0.2)


def test_every_process_of_the_procfile_is_stopped() -> None:
    assert commands({}).keys() == {name for group in STOPPING for name in group}
