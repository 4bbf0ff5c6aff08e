"""One deployment per database engine, shared by all tests of this folder. Each test has its own shoppers."""

import shutil
from collections.abc import Iterator
from itertools import count

import pytest

from tests.conftest import ENGINES
from tests.gateways.bank import running_bank
from tests.processes.running import Deployment

_numbers = count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder in one pytest worker, and not in `make check`."""
    for item in items:
        if "tests/processes" in str(item.path):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("processes"))


@pytest.fixture(scope="session", params=ENGINES)
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Yield two shops and a bank at which the slow card takes four seconds."""
    folder = tmp_path_factory.mktemp("deployment")
    if request.param == "sqlite":
        (folder / "storage").mkdir(mode=0o700)
        shutil.copyfile(request.getfixturevalue("sqlite_template"), folder / "storage" / "shop.sqlite")
        url = f"sqlite:///{folder}/storage/shop.sqlite"
    else:
        server = request.getfixturevalue("postgres")
        name = server.create(template=request.getfixturevalue("postgres_template"))
        url = server.url(name)
    with running_bank(f"sqlite:///{folder}/bank/bank.sqlite", folder, slow=4.0) as bank:
        deployment = Deployment.start(url, bank, folder)
        yield deployment
        deployment.stop()
    if request.param == "postgresql":
        server.drop(name)


@pytest.fixture
def email() -> str:
    """Return an e-mail address that no other test uses."""
    return f"shopper{next(_numbers)}@example.org"
