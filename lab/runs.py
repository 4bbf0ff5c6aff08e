"""What visitors asked to see and what came of it: kept for an hour where all workers of the shop can read it.

A file of its own in the system's temporary folder; nothing of the shop's is in it. The bounds are kept here too.
"""

import json
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from time import time

from lab.race import Result, result_from

Cell = tuple[int, int]
"""The numbers of a defence and an attack."""

KEPT_FOR = 3600.0
"""Seconds that results are kept."""
KEPT = 30
"""Runs that are kept at most, of all visitors together; the whole matrix is about one megabyte."""
AT_ONCE = 4
"""Runs that play or wait for their turn at most. One plays at a time."""
ABANDONED = 30.0
"""Seconds without a word of its runner after which a run is over, whatever became of it."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
  id TEXT PRIMARY KEY, visitor TEXT NOT NULL, made REAL NOT NULL, heard REAL NOT NULL, ended REAL
);
CREATE TABLE IF NOT EXISTS cell (
  run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE, defence INTEGER NOT NULL, attack INTEGER NOT NULL,
  state TEXT NOT NULL, result TEXT, PRIMARY KEY (run, defence, attack)
);
"""


class Full(Exception):
    """As many runs as the lab takes are waiting already."""


@dataclass(frozen=True)
class CellState:
    """A cell as a page shows it: "waiting", "running", "done" or "failed"; `result` without its steps."""

    run: str
    state: str
    charges: int = 0
    told: str = ""
    verdict: str = ""


def folder(secret: str) -> Path:
    """The lab's own folder, one for each shop on the machine; made private where it is missing.

    Raises PermissionError where somebody else has made it.
    """
    path = Path(tempfile.gettempdir()) / f"payonce-lab-{sha256(secret.encode()).hexdigest()[:16]}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.lstat().st_uid != os.geteuid() or path.is_symlink():
        raise PermissionError(f"{path} is not ours")
    return path


class Runs:
    """The file of runs. Any number of processes and threads may use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._writing() as file:
            for statement in SCHEMA.split(";"):
                file.execute(statement)

    def begin(self, visitor: str, cells: Sequence[Cell]) -> tuple[str, bool]:
        """The id of a new run of these cells and True; or of the one that the visitor has going and False.

        Raises Full.
        """
        with self._writing() as file:
            self._throw_away(file)
            going = self._going(file)
            for run, owner in going:
                if owner == visitor:
                    return run, False
            if len(going) >= AT_ONCE:
                raise Full
            run = secrets.token_hex(8)
            file.execute("INSERT INTO run VALUES (?, ?, ?, ?, NULL)", (run, visitor, time(), time()))
            rows = [(run, *cell, "waiting", None) for cell in cells]
            file.executemany("INSERT INTO cell VALUES (?, ?, ?, ?, ?)", rows)
        return run, True

    def hear(self, run: str) -> None:
        """The runner lives."""
        with self._writing() as file:
            file.execute("UPDATE run SET heard = ? WHERE id = ?", (time(), run))

    def note(self, run: str, cell: Cell, state: str, result: Result | None = None) -> None:
        """How a cell stands."""
        text = json.dumps(asdict(result)) if result else None
        with self._writing() as file:
            file.execute(
                "UPDATE cell SET state = ?, result = ? WHERE run = ? AND defence = ? AND attack = ?",
                (state, text, run, *cell),
            )
            file.execute("UPDATE run SET heard = ? WHERE id = ?", (time(), run))

    def end(self, run: str) -> None:
        """Nothing more will come of this run."""
        with self._writing() as file:
            file.execute("UPDATE run SET ended = ? WHERE id = ?", (time(), run))

    def waiting(self, run: str) -> list[Cell]:
        """The cells of a run that are still to be played."""
        with self._open() as file:
            return file.execute(
                "SELECT defence, attack FROM cell WHERE run = ? AND state = 'waiting' ORDER BY defence, attack", (run,)
            ).fetchall()

    def visitor(self, run: str) -> str | None:
        """Whose run it is; None where it is not known, or not any more."""
        with self._open() as file:
            row = file.execute("SELECT visitor FROM run WHERE id = ? AND made > ?", (run, _oldest())).fetchone()
        return row[0] if row else None

    def going(self, run: str) -> bool:
        """Whether more will come of it."""
        with self._open() as file:
            return run in {going for going, _ in self._going(file)}

    def matrix(self, visitor: str) -> dict[Cell, CellState]:
        """The newest state of each cell that this visitor asked for."""
        with self._open() as file:
            rows = file.execute(
                "SELECT defence, attack, run, state, json_extract(result, '$.charges'), json_extract(result, '$.told'),"
                " json_extract(result, '$.verdict') FROM cell JOIN run ON run.id = run"
                " WHERE visitor = ? AND made > ? ORDER BY made",
                (visitor, _oldest()),
            ).fetchall()
        return {(defence, attack): CellState(run, *shown) for defence, attack, run, *shown in rows}

    def result(self, run: str, cell: Cell) -> Result | None:
        """All that is known of a cell that was played."""
        with self._open() as file:
            row = file.execute(
                "SELECT result FROM cell WHERE run = ? AND defence = ? AND attack = ?", (run, *cell)
            ).fetchone()
        return result_from(json.loads(row[0])) if row and row[0] else None

    def _going(self, file: sqlite3.Connection) -> list[tuple[str, str]]:
        return file.execute(
            "SELECT id, visitor FROM run WHERE ended IS NULL AND heard > ?", (time() - ABANDONED,)
        ).fetchall()

    def _throw_away(self, file: sqlite3.Connection) -> None:
        """What is old, and the oldest where there are too many."""
        file.execute("DELETE FROM run WHERE made <= ?", (_oldest(),))
        file.execute("DELETE FROM run WHERE id NOT IN (SELECT id FROM run ORDER BY made DESC LIMIT ?)", (KEPT - 1,))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as file:
            file.execute("BEGIN IMMEDIATE")
            yield file
            file.execute("COMMIT")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Rolled back where it is not committed. WAL, so that pages don't wait for the runner."""
        with closing(sqlite3.connect(self.folder / "runs.sqlite", timeout=10, isolation_level=None)) as file:
            for pragma in ("journal_mode=WAL", "synchronous=OFF", "foreign_keys=ON"):
                file.execute(f"PRAGMA {pragma}")
            yield file


def _oldest() -> float:
    """What was made until then is over, whether it has been thrown away yet or not."""
    return time() - KEPT_FOR
