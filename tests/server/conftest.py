"""A real gunicorn with the project's settings on an SQLite database, without a bank."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.running import RunningShop

NO_BANK = "http://127.0.0.1:9"


@pytest.fixture
def make_running(sqlite_template: Path, tmp_path: Path) -> Iterator[Callable[..., RunningShop]]:
    """Return a function that starts shops with these settings, each on a database of its own."""
    shops: list[RunningShop] = []

    def make(workers: int = 1, **settings: str) -> RunningShop:
        folder = tmp_path / f"shop{len(shops)}"
        folder.mkdir(mode=0o700)
        shutil.copyfile(sqlite_template, folder / "shop.sqlite")
        url = f"sqlite:///{folder}/shop.sqlite"
        shops.append(RunningShop(url, NO_BANK, folder, workers, settings))
        return shops[-1].start()

    yield make
    for shop in shops:
        if shop.process and shop.process.poll() is None:
            shop.process.kill()
            shop.process.wait(30)


@pytest.fixture
def running(make_running: Callable[..., RunningShop]) -> RunningShop:
    """Return a shop with one worker and four threads."""
    return make_running(GUNICORN_THREADS="4")
