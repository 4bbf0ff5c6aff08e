"""Fixtures for all tests. Every test that uses `engine_name`, directly or not, runs on SQLite and on PostgreSQL.

`shop` is the whole application in this process, migrated and seeded, with a real sandbox bank behind httpx's
WSGI transport. Databases are copied from a template that is migrated once per session.
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
from jinja2.bccache import Bucket, BytecodeCache

from app import create_app, logs
from app.database import db
from app.orders.seed import seed
from app.settings import Settings
from tests.factories import SECRET
from tests.shops import Shop

pytest_plugins = ["tests.postgres"]


class CurrentStandardError:
    """Writes to the present `sys.stderr`. pytest replaces it during each test and closes the replacement afterwards."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@pytest.fixture(scope="session", autouse=True)
def logs_follow_standard_error() -> Iterator[None]:
    """Make loggers write to the present standard error, although structlog keeps the first one that it was given."""
    with patch.object(logs, "sys", SimpleNamespace(stderr=CurrentStandardError())):
        yield


class CompiledTemplates(BytecodeCache):
    """Keeps compiled templates in memory, for all the applications that the tests of this process create."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._kept.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key, bucket.checksum] = bucket.code


@pytest.fixture(scope="session", autouse=True)
def templates_are_compiled_once() -> Iterator[None]:
    """Without this, compiling is the largest part of a test's time. The checksum is that of the template's source."""
    with patch.object(Flask, "jinja_options", {"bytecode_cache": CompiledTemplates()}):
        yield


ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


def migrate(database_url: str, *, seeded: bool = True) -> None:
    """Run `db upgrade` and, if `seeded`, `seed`."""
    app = create_app(Settings(secret_key=SECRET, database_url=database_url))
    with app.app_context():
        flask_migrate.upgrade()
        if seeded:
            seed("EUR")
        db.engine.dispose()


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Return "sqlite" or "postgresql"."""
    return str(request.param)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a migrated and seeded database that is not open."""
    path = tmp_path_factory.mktemp("template") / "shop.sqlite"
    migrate(f"sqlite:///{path}")
    return path


# Truncating is a hundred times faster than creating a database. In the role `replica`, no trigger refuses it.
KEEP = "CREATE SCHEMA kept; CREATE TABLE kept.product AS TABLE public.product"
EMPTY = """
SET session_replication_role = replica;
TRUNCATE {tables} RESTART IDENTITY;
INSERT INTO product SELECT * FROM kept.product;
SELECT setval(pg_get_serial_sequence('product', 'id'), (SELECT max(id) FROM product));
"""


@pytest.fixture(scope="session")
def postgres_template(postgres: Any) -> Iterator[str]:
    """Return the name of a migrated and seeded database without connections."""
    name = postgres.create()
    migrate(postgres.url(name))
    yield name
    postgres.drop(name)


@pytest.fixture(scope="session")
def postgres_reused(postgres: Any, postgres_template: str) -> Iterator[Callable[[], str]]:
    """Return a function that resets this worker's only database to the seeded state and returns its URL."""
    from tests.postgres import Server  # Not at the top: pytest loads that module as a plugin.

    name = postgres.create(template=postgres_template)
    database = Server(postgres.admin.set(database=name))
    database.execute(KEEP)
    found = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    tables = ", ".join(table for (table,) in found if table != "alembic_version")

    def reset() -> str:
        database.execute(EMPTY.format(tables=tables))
        return str(postgres.url(name))

    yield reset
    postgres.drop(name)


@pytest.fixture
def empty_url(engine_name: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of a database without tables."""
    if engine_name == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path')}/empty/shop.sqlite"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def second_url(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of another database without tables, to compare with the one of `empty_url`."""
    if engine_name == "sqlite":
        yield f"sqlite:///{tmp_path}/second/shop.sqlite"
        return
    server = request.getfixturevalue("postgres")
    name = server.create()
    yield str(server.url(name))
    server.drop(name)


@pytest.fixture
def database_url(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a migrated and seeded database.

    On PostgreSQL it is reused by later tests, so a test may change its rows but not its schema.
    """
    if engine_name == "postgresql":
        return str(request.getfixturevalue("postgres_reused")())
    path = tmp_path / "storage" / "shop.sqlite"
    path.parent.mkdir(mode=0o700)
    shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


@pytest.fixture
def own_url(engine_name: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Like `database_url`, but only this test uses it, so it may change the schema or drop the database."""
    if engine_name == "sqlite":
        yield request.getfixturevalue("database_url")
        return
    server = request.getfixturevalue("postgres")
    name = server.create(template=request.getfixturevalue("postgres_template"))
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def make_shop(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Return a function that creates shops on the test's database: `make_shop(gateway_deadline=1.0)`.

    Its arguments are the settings that differ from the defaults of the tests.
    """
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
    """Return the shop with the default settings of the tests."""
    return make_shop()


@pytest.fixture
def app(shop: Shop) -> Iterator[Flask]:
    """Yield the shop's application with an app context pushed, for tests that call its code directly.

    Do not use it in tests that request pages: all requests would share this context and its `g`.
    """
    with shop.app.app_context():
        yield shop.app
