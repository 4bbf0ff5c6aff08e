"""One town for each engine, shared by the tests of this folder: every test has shoppers and addresses of its own."""

import shutil
from collections.abc import Iterator
from itertools import count

import pytest

from tests.conftest import ENGINES
from tests.gateways.bank import running_bank
from tests.processes.running import Town

_numbers = count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder in one worker, and not in the quick loop."""
    for item in items:
        if "tests/processes" in str(item.path):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("processes"))


@pytest.fixture(scope="session", params=ENGINES)
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The slow card takes four seconds here."""
    folder = tmp_path_factory.mktemp("town")
    if request.param == "sqlite":
        (folder / "storage").mkdir(mode=0o700)
        shutil.copyfile(request.getfixturevalue("sqlite_template"), folder / "storage" / "shop.sqlite")
        url = f"sqlite:///{folder}/storage/shop.sqlite"
    else:
        server = request.getfixturevalue("postgres")
        name = server.create(template=request.getfixturevalue("postgres_template"))
        url = server.url(name)
    with running_bank(f"sqlite:///{folder}/bank/bank.sqlite", folder, slow=4.0) as bank:
        town = Town.open(url, bank, folder)
        yield town
        town.close()
    if request.param == "postgresql":
        server.drop(name)


@pytest.fixture
def email() -> str:
    """An address that no other test uses."""
    return f"shopper{next(_numbers)}@example.org"
