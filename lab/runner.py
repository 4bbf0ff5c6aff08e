"""The process that plays: `python -m lab.runner`, started by the page or by the command, without threads.

It knows nothing of the shop's settings: no database, no gateway, no secret reaches it.
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
"""Seconds for one run, its turn come; the whole matrix takes about one minute."""
TURN = 0.3
"""Seconds between two looks whether it is our turn."""


def start(folder: Path, run: str) -> None:
    """Play a run in a process of its own, that ends with the one that started it."""
    _python("run", str(folder), run, stdout=DEVNULL)


def playing(defences: Iterable[int], attacks: Iterable[int], rounds: int) -> Popen[bytes]:
    """Play these cells and print each result as a line of JSON."""
    numbers = [",".join(map(str, chosen)) for chosen in (defences, attacks)]
    return _python("print", *numbers, str(rounds), stdout=PIPE)


def _python(*arguments: str, stdout: int) -> Popen[bytes]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    command = [sys.executable, "-m", "lab.runner", *arguments]
    return Popen(command, cwd=ROOT, env=kept, stdin=DEVNULL, stdout=stdout, stderr=None if stdout == PIPE else DEVNULL)


def _run(folder: Path, run: str) -> None:
    """Wait for our turn, then play what is waiting. One run plays at a time on this machine."""
    from lab.runs import Runs

    runs, parent = Runs(folder), os.getppid()
    with open(folder / "turn", "a") as turn:
        try:
            while not _taken(turn):
                runs.hear(run)
                time.sleep(TURN)
                _end_without(parent)
            _play_waiting(runs, run, parent)
        finally:
            runs.end(run)


def _play_waiting(runs: Any, run: str, parent: int) -> None:
    from lab.attacks import ATTACKS
    from lab.defences import DEFENCES
    from lab.race import SceneFailed, play

    end = time.monotonic() + RUN_LIMIT
    for defence, attack in runs.waiting(run):
        _end_without(parent)
        runs.note(run, (defence, attack), "running")
        try:
            if time.monotonic() > end:
                raise SceneFailed("the run took too long")
            runs.note(run, (defence, attack), "done", play(DEFENCES[defence - 1], ATTACKS[attack - 1]))
        except SceneFailed:
            runs.note(run, (defence, attack), "failed")


def _taken(turn: IO[str]) -> bool:
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_without(parent: int) -> None:
    """Whoever started us has ended: the shop is being stopped."""
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
                    sys.exit(f"The lab failed: {error}")
                del result["steps"]
                print(json.dumps({"round": number, **result}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        _run(Path(sys.argv[2]), sys.argv[3])
    else:
        _print(*sys.argv[2:])
