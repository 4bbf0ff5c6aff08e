"""The process that plays scenes: `python -m lab.runner`, started by a page or by the command `lab`.

It has no threads, because scenes fork. It gets none of the shop's settings: no database, no gateway and no secret.
"""

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
RUN_LIMIT = 240.0
"""Seconds that a run may play, waiting for its turn not included. The whole matrix takes about one minute."""
TURN_PAUSE = 0.3
"""Seconds between two tries to get the turn."""


def start(folder: Path, run: str) -> None:
    """Play a run in a new process. It ends if this process ends."""
    _python("run", str(folder), run, stdout=DEVNULL)


def playing(defences: Iterable[int], attacks: Iterable[int], rounds: int) -> Popen[bytes]:
    """Start a process that plays these cells. It prints each result as one line of JSON."""
    numbers = [",".join(map(str, chosen)) for chosen in (defences, attacks)]
    return _python("print", *numbers, str(rounds), stdout=PIPE)


def _python(*arguments: str, stdout: int) -> Popen[bytes]:
    env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    command = [sys.executable, "-m", "lab.runner", *arguments]
    return Popen(command, cwd=ROOT, env=env, stdin=DEVNULL, stdout=stdout, stderr=None if stdout == PIPE else DEVNULL)


def _run(folder: Path, run: str) -> None:
    """Wait for the turn, then play the cells that are waiting. On one machine, one run plays at a time."""
    from lab.runs import Runs

    runs, parent = Runs(folder), os.getppid()
    with open(folder / "turn", "a") as turn:
        try:
            while not _lock(turn):
                runs.keep_alive(run)
                time.sleep(TURN_PAUSE)
                _exit_if_orphaned(parent)
            _play_waiting(runs, run, parent)
        finally:
            runs.end(run)


def _play_waiting(runs: Any, run: str, parent: int) -> None:
    from lab.attacks import ATTACKS
    from lab.defences import DEFENCES
    from lab.race import SceneFailed, play

    end = time.monotonic() + RUN_LIMIT
    for defence, attack in runs.waiting(run):
        _exit_if_orphaned(parent)
        runs.set_state(run, (defence, attack), "running")
        try:
            if time.monotonic() > end:
                raise SceneFailed("the run took too long")
            runs.set_state(run, (defence, attack), "done", play(DEFENCES[defence - 1], ATTACKS[attack - 1]))
        except SceneFailed:
            runs.set_state(run, (defence, attack), "failed")


def _lock(turn: IO[str]) -> bool:
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _exit_if_orphaned(parent: int) -> None:
    """Exit if the process that started this one has ended, because the shop is being stopped."""
    if os.getppid() != parent:
        sys.exit()


def _print(defences: str, attacks: str, rounds: str) -> None:
    from lab.attacks import ATTACKS
    from lab.defences import DEFENCES
    from lab.race import SceneFailed, play

    for number in range(1, int(rounds) + 1):
        for defence in map(int, defences.split(",")):
            for attack in map(int, attacks.split(",")):
                try:
                    result = asdict(play(DEFENCES[defence - 1], ATTACKS[attack - 1]))
                except SceneFailed as error:
                    sys.exit(f"The Lab failed: {error}")
                del result["steps"]
                print(json.dumps({"round": number, **result}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        _run(Path(sys.argv[2]), sys.argv[3])
    else:
        _print(*sys.argv[2:])
