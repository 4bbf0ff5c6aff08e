"""Fixtures that every folder of tests shares. What takes an engine runs on both, SQLite and PostgreSQL.

`shop` is the whole application in this process, migrated and seeded, with a real sandbox bank behind httpx's
WSGI transport. Databases are copied from a template that is migrated once a session.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import flask_migrate
import pytest
from flask import Flask

from app import create_app, logs
from app.database import db
from app.orders.seed import seed
from app.settings import Settings
from tests.factories import SECRET
from tests.shops import Shop

pytest_plugins = ["tests.postgres"]


class StandardError:
    """Wherever standard error goes at that moment: a test may take it for itself, and gives it back closed."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@pytest.fixture(scope="session", autouse=True)
def logs_are_heard() -> Iterator[None]:
    """Loggers are kept from their first line on, whichever test that was in."""
    with patch.object(logs, "sys", SimpleNamespace(stderr=StandardError())):
        yield


ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


def migrate(database_url: str, *, seeded: bool = True) -> None:
    """What `db upgrade` and `seed` do."""
    app = create_app(Settings(secret_key=SECRET, database_url=database_url))
    with app.app_context():
        flask_migrate.upgrade()
        if seeded:
            seed("EUR")
        db.engine.dispose()


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """ "sqlite" or "postgresql": every test that takes it, directly or not, runs on both."""
    return str(request.param)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated and seeded file, closed."""
    path = tmp_path_factory.mktemp("template") / "shop.sqlite"
    migrate(f"sqlite:///{path}")
    return path


# Truncating is a hundred times quicker than making a database. As a replica, so that no trigger refuses it.
KEEP = "CREATE SCHEMA kept; CREATE TABLE kept.product AS TABLE public.product"
EMPTY = """
SET session_replication_role = replica;
TRUNCATE {tables} RESTART IDENTITY;
INSERT INTO product SELECT * FROM kept.product;
SELECT setval(pg_get_serial_sequence('product', 'id'), (SELECT max(id) FROM product));
"""


@pytest.fixture(scope="session")
def postgres_template(postgres: Any) -> Iterator[str]:
    """The name of a migrated and seeded database that nobody is connected to."""
    name = postgres.create()
    migrate(postgres.url(name))
    yield name
    postgres.drop(name)


@pytest.fixture(scope="session")
def postgres_reused(postgres: Any, postgres_template: str) -> Iterator[Callable[[], str]]:
    """Empties and seeds this worker's one database for the next test, and answers its address."""
    from tests.postgres import Server  # Not above: pytest loads that module as a plugin.

    name = postgres.create(template=postgres_template)
    database = Server(postgres.admin.set(database=name))
    database.execute(KEEP)
    found = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    tables = ", ".join(table for (table,) in found if table != "alembic_version")

    def clean() -> str:
        database.execute(EMPTY.format(tables=tables))
        return str(postgres.url(name))

    yield clean
    postgres.drop(name)


@pytest.fixture
def empty_url(engine_name: str, request: pytest.FixtureRequest) -> str:
    """A database without a table, on either engine."""
    if engine_name == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path')}/empty/shop.sqlite"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def database_url(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated and seeded database, on either engine. Its rows are the test's own; its schema is not."""
    if engine_name == "postgresql":
        return str(request.getfixturevalue("postgres_reused")())
    path = tmp_path / "storage" / "shop.sqlite"
    path.parent.mkdir(mode=0o700)
    shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


@pytest.fixture
def own_url(engine_name: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The same, but whole: for tests that break it, or that change its schema."""
    if engine_name == "sqlite":
        yield request.getfixturevalue("database_url")
        return
    server = request.getfixturevalue("postgres")
    name = server.create(template=request.getfixturevalue("postgres_template"))
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def make_shop(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Make shops over the test's one database, with other settings if told: `make_shop(gateway_deadline=1.0)`."""
    made: list[Shop] = []

    def make(**changes: Any) -> Shop:
        shop = Shop(database_url, tmp_path, changes) if not made else made[0].another(**changes)
        made.append(shop)
        return shop

    yield make
    for shop in made:
        shop.close()


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    """The shop, open for business, on either engine."""
    return make_shop()


@pytest.fixture
def app(shop: Shop) -> Iterator[Flask]:
    """The shop's application with a context pushed, for tests of the inner rooms.

    Not for tests that request pages: those requests would share the context, and with it what Flask keeps in `g`.
    """
    with shop.app.app_context():
        yield shop.app
