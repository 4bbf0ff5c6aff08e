"""Fixtures of the Lab's tests: the matrix, played once per session, and a shop whose Lab has a folder of its own."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import runner
from lab.attacks import ATTACKS
from lab.defences import DEFENCES
from tests.shops import Shop


def play(defences: list[int], attacks: list[int], rounds: int = 1) -> list[dict[str, Any]]:
    """Play these cells in a new process. Return the results."""
    with runner.playing(defences, attacks, rounds) as process:
        assert process.stdout is not None
        results = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    return results


@pytest.fixture(scope="session")
def matrix() -> dict[tuple[int, int], dict[str, Any]]:
    """Return the results of every attack on every defence."""
    results = play([each.number for each in DEFENCES], [each.number for each in ATTACKS])
    return {(cell["defence"], cell["attack"]): cell for cell in results}


@pytest.fixture
def lab_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the folder of the Lab's files. Its path is short, because the path of a Unix socket must be."""
    folder = Path(tempfile.mkdtemp(prefix="lab-"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def engine_name() -> str:
    return "sqlite"


@pytest.fixture
def shop(make_shop: Callable[..., Shop], lab_folder: Path) -> Shop:
    return make_shop()
