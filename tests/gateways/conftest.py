"""Bank databases on both engines, and one running bank per engine. Tests share it, because each has keys of its own."""

from collections.abc import Iterator

import pytest

from tests.gateways.bank import RunningBank, running_bank

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session", params=ENGINES)
def shared_bank_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('bank-database')}/private/bank.sqlite"
        return
    server = request.getfixturevalue("postgres")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture(scope="session")
def bank(shared_bank_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    with running_bank(shared_bank_database_url, tmp_path_factory.mktemp("bank")) as bank:
        yield bank


@pytest.fixture(params=ENGINES)
def bank_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database that no other test uses."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path')}/private/bank.sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url
