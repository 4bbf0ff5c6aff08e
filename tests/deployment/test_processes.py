"""The Procfile's processes stop in order, each in its own time."""

import os
import sys
import time
from pathlib import Path

import pytest

from setup.processes import STOPPING, Processes
from setup.run import commands

pytestmark = pytest.mark.slow

# Notes its name when it is told to stop, and takes its time over it.
POLITE = """
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
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[0] + ".ready", "w")
while True: time.sleep(60)
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    (tmp_path / "polite.py").write_text(POLITE)
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    return tmp_path


def start(folder: Path, ready: int, **commands: str) -> Processes:
    """Start them, and wait until so many are ready for a signal."""
    lines = {name: f"{sys.executable} {folder}/{command}" for name, command in commands.items()}
    processes = Processes(lines, dict(os.environ), folder)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.ready*"))) < ready:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return processes


def test_the_bank_stops_after_the_shop(scripts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    note = scripts / "note"
    processes = start(scripts, 2, bank=f"polite.py {note} bank", shop=f"polite.py {note} shop")
    processes.stop(patience=20)
    assert note.read_text().split() == ["shop", "bank"]
    assert "shop     | done" in capfd.readouterr().out


def test_what_does_not_stop_is_killed(scripts: Path) -> None:
    processes = start(scripts, 1, shop="stubborn.py")
    processes.stop(patience=0.2)
    assert processes.running["shop"].wait(timeout=10) == -9


def test_the_first_to_end_is_named(scripts: Path) -> None:
    processes = start(scripts, 1, shop="stubborn.py", bank="missing.py")
    assert processes.wait() == "bank"
    assert processes.running["bank"].returncode == 2
    processes.stop(patience=0.2)


def test_every_process_of_the_procfile_has_its_turn_to_stop() -> None:
    assert commands({}).keys() == {name for group in STOPPING for name in group}
