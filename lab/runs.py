"""The runs that visitors started, and their results, for one hour. All workers of the shop can read them.

They are in a SQLite file in the system's temporary folder, which holds no data of the shop. The limits on runs are
enforced here too.
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

KEPT_SECONDS = 3600.0
"""Seconds that results are kept."""
MOST_KEPT = 30
"""Runs that are kept for all visitors together. A run of the whole matrix takes about one megabyte."""
MOST_ACTIVE = 4
"""Runs that may play or wait for their turn at the same time. One plays at a time."""
SILENT_SECONDS = 30.0
"""Seconds without a sign of life from its runner after which a run counts as ended."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
  id TEXT PRIMARY KEY, visitor TEXT NOT NULL, created_at REAL NOT NULL, alive_at REAL NOT NULL, ended_at REAL
);
CREATE TABLE IF NOT EXISTS cell (
  run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE, defence INTEGER NOT NULL, attack INTEGER NOT NULL,
  state TEXT NOT NULL, result TEXT, PRIMARY KEY (run, defence, attack)
);
"""


class TooManyRuns(Exception):
    """MOST_ACTIVE runs are playing or waiting already."""


@dataclass(frozen=True)
class CellState:
    """A cell as a page shows it. `state` is "waiting", "running", "done" or "failed"."""

    run: str
    state: str
    charges: int = 0
    told: str = ""
    verdict: str = ""


def folder(secret: str) -> Path:
    """Return the Lab's private folder, one for each secret key. Create it if it is missing.

    Raises PermissionError if it belongs to another user or is a symbolic link.
    """
    path = Path(tempfile.gettempdir()) / f"payonce-lab-{sha256(secret.encode()).hexdigest()[:16]}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.lstat().st_uid != os.geteuid() or path.is_symlink():
        raise PermissionError(f"{path} is not ours")
    return path


class Runs:
    """The file with all runs. Any number of processes and threads may use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._writing() as file:
            for statement in SCHEMA.split(";"):
                file.execute(statement)

    def begin(self, visitor: str, cells: Sequence[Cell]) -> tuple[str, bool]:
        """Create a run of these cells. Return its id and True.

        If the visitor has an active run, return its id and False. Raises TooManyRuns.
        """
        with self._writing() as file:
            self._delete_old(file)
            active = self._active(file)
            for run, owner in active:
                if owner == visitor:
                    return run, False
            if len(active) >= MOST_ACTIVE:
                raise TooManyRuns
            run = secrets.token_hex(8)
            file.execute("INSERT INTO run VALUES (?, ?, ?, ?, NULL)", (run, visitor, time(), time()))
            rows = [(run, *cell, "waiting", None) for cell in cells]
            file.executemany("INSERT INTO cell VALUES (?, ?, ?, ?, ?)", rows)
        return run, True

    def keep_alive(self, run: str) -> None:
        """Note that the run's process is alive."""
        with self._writing() as file:
            file.execute("UPDATE run SET alive_at = ? WHERE id = ?", (time(), run))

    def set_state(self, run: str, cell: Cell, state: str, result: Result | None = None) -> None:
        """Set the state and the result of a cell. This is a sign of life too."""
        text = json.dumps(asdict(result)) if result else None
        with self._writing() as file:
            file.execute(
                "UPDATE cell SET state = ?, result = ? WHERE run = ? AND defence = ? AND attack = ?",
                (state, text, run, *cell),
            )
            file.execute("UPDATE run SET alive_at = ? WHERE id = ?", (time(), run))

    def end(self, run: str) -> None:
        """Mark the run as ended."""
        with self._writing() as file:
            file.execute("UPDATE run SET ended_at = ? WHERE id = ?", (time(), run))

    def waiting(self, run: str) -> list[Cell]:
        """Return the cells of a run that have not been played yet."""
        with self._open() as file:
            return file.execute(
                "SELECT defence, attack FROM cell WHERE run = ? AND state = 'waiting' ORDER BY defence, attack", (run,)
            ).fetchall()

    def visitor(self, run: str) -> str | None:
        """Return the visitor who started the run; None if the run is unknown or too old."""
        with self._open() as file:
            row = file.execute("SELECT visitor FROM run WHERE id = ? AND created_at > ?", (run, _oldest())).fetchone()
        return row[0] if row else None

    def is_active(self, run: str) -> bool:
        """Return whether more results will come."""
        with self._open() as file:
            return run in {active for active, _ in self._active(file)}

    def matrix(self, visitor: str) -> dict[Cell, CellState]:
        """Return the newest state of each cell that this visitor played."""
        with self._open() as file:
            rows = file.execute(
                "SELECT defence, attack, run, state, json_extract(result, '$.charges'), json_extract(result, '$.told'),"
                " json_extract(result, '$.verdict') FROM cell JOIN run ON run.id = run"
                " WHERE visitor = ? AND created_at > ? ORDER BY created_at",
                (visitor, _oldest()),
            ).fetchall()
        return {(defence, attack): CellState(run, *shown) for defence, attack, run, *shown in rows}

    def result(self, run: str, cell: Cell) -> Result | None:
        """Return the result of a cell with all its steps; None if it has not been played."""
        with self._open() as file:
            row = file.execute(
                "SELECT result FROM cell WHERE run = ? AND defence = ? AND attack = ?", (run, *cell)
            ).fetchone()
        return result_from(json.loads(row[0])) if row and row[0] else None

    def _active(self, file: sqlite3.Connection) -> list[tuple[str, str]]:
        """Return the id and the visitor of each active run."""
        return file.execute(
            "SELECT id, visitor FROM run WHERE ended_at IS NULL AND alive_at > ?", (time() - SILENT_SECONDS,)
        ).fetchall()

    def _delete_old(self, file: sqlite3.Connection) -> None:
        """Delete runs that are too old, and the oldest ones if there are too many, so that one more can be added."""
        file.execute("DELETE FROM run WHERE created_at <= ?", (_oldest(),))
        file.execute(
            "DELETE FROM run WHERE id NOT IN (SELECT id FROM run ORDER BY created_at DESC LIMIT ?)", (MOST_KEPT - 1,)
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as file:
            file.execute("BEGIN IMMEDIATE")
            yield file
            file.execute("COMMIT")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file. Closing it rolls an open transaction back. With WAL, pages do not wait for the runner."""
        with closing(sqlite3.connect(self.folder / "results.sqlite", timeout=10, isolation_level=None)) as file:
            for pragma in ("journal_mode=WAL", "synchronous=OFF", "foreign_keys=ON"):
                file.execute(f"PRAGMA {pragma}")
            yield file


def _oldest() -> float:
    """Return the time before which runs are no longer shown, even if they have not been deleted yet."""
    return time() - KEPT_SECONDS
