"""The Lab's tests: its matrix played once for all of them, and a shop with a lab folder of its own."""

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
    """The results of these cells, played in a process of their own."""
    with runner.playing(defences, attacks, rounds) as process:
        assert process.stdout is not None
        results = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    return results


@pytest.fixture(scope="session")
def matrix() -> dict[tuple[int, int], dict[str, Any]]:
    """Every defence under every attack."""
    results = play([one.number for one in DEFENCES], [one.number for one in ATTACKS])
    return {(cell["defence"], cell["attack"]): cell for cell in results}


@pytest.fixture
def lab_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the lab keeps its files; short, for a socket's path may not be long."""
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
