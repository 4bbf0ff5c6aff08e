"""The endpoints for machines: liveness, readiness and metrics."""

import socket
import threading
from pathlib import Path

import pytest
from sqlalchemy import event

from app import revisions
from app.database import db
from app.health import readiness
from tests.shops import Shop


def test_healthz_and_readyz(shop: Shop) -> None:
    client = shop.shopper().client
    for path, text in (("/healthz", "alive\n"), ("/readyz", "ready\n")):
        response = client.get(path)
        assert (response.status_code, response.text) == (200, text)
        assert response.headers["Cache-Control"] == "no-store"


def test_readyz_reports_that_the_database_cannot_be_reached(
    own_url: str, engine_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    shop = Shop(own_url, tmp_path)
    client = shop.shopper().client
    assert client.get("/readyz").status_code == 200
    shop.close()
    if engine_name == "sqlite":
        (tmp_path / "storage").rename(tmp_path / "gone")
    else:
        server = request.getfixturevalue("postgres")
        server.drop(own_url.rpartition("/")[2].partition("?")[0])
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.text.startswith("the database can't be reached")
    assert client.get("/healthz").status_code == 200, "the process is still alive"
    shop.close()


def test_metrics_are_in_the_format_of_prometheus(shop: Shop) -> None:
    client = shop.shopper().client
    client.get("/")
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")


def without_database(shop: Shop, reason: str) -> None:
    """Assert that the shop says this reason, and that it is alive."""
    client = shop.shopper().client
    response = client.get("/readyz")
    assert (response.status_code, response.text) == (503, f"{reason}\n")
    assert client.get("/healthz").status_code == 200


def test_readyz_reports_a_missing_migration(own_url: str, tmp_path: Path) -> None:
    shop = Shop(own_url, tmp_path)
    newest = revisions.known()[0]
    why = f"the database lacks the migration {newest}; run: flask --app wsgi db upgrade"
    for statement in ("UPDATE alembic_version SET version_num = '0003'", "DROP TABLE alembic_version"):
        shop.execute(statement)
        without_database(shop, why)
    shop.close()


def test_readyz_accepts_the_database_of_a_later_version(own_url: str, tmp_path: Path) -> None:
    shop = Shop(own_url, tmp_path)
    shop.execute("UPDATE alembic_version SET version_num = '9999'")
    assert shop.shopper().client.get("/readyz").text == "ready\n"
    shop.execute("UPDATE alembic_version SET version_num = 'other'")
    assert shop.shopper().client.get("/readyz").status_code == 503
    shop.close()


def test_readyz_reports_a_read_only_database(
    own_url: str, engine_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine_name == "postgresql":
        server = request.getfixturevalue("postgres")
        name = own_url.rpartition("/")[2].partition("?")[0]
        server.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    shop = Shop(own_url, tmp_path)
    if engine_name == "sqlite":
        with shop.app.app_context():
            event.listen(db.engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only = ON"))
    without_database(shop, "the database is read-only")
    shop.close()


def test_readyz_has_a_deadline(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that hangs is not started again. When it has ended, the next request gets a new one."""
    hanging, started = threading.Event(), []

    def hang(connection: object) -> None:
        started.append(connection)
        hanging.wait(60)

    monkeypatch.setattr(readiness, "SECONDS", 0.1)
    monkeypatch.setattr(readiness, "DATABASE_REASONS", [hang])
    for _ in range(3):
        without_database(shop, "the database did not answer within 0.1 seconds")
    assert len(started) == 1
    hanging.set()
    monkeypatch.setattr(readiness, "SECONDS", 60)
    shop.shopper().client.get("/readyz")
    assert shop.shopper().client.get("/readyz").text == "ready\n"
    assert len(started) > 1


def test_readyz_does_not_wait_for_a_silent_database(tmp_path: Path) -> None:
    """The server accepts the connection and says nothing. Requests wait for it much longer than /readyz does."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg2://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        shop = Shop(url, tmp_path)
        without_database(shop, "the database did not answer within 2 seconds")
        shop.close()
