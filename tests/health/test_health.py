"""The endpoints for machines: liveness, readiness and metrics."""

from pathlib import Path

import pytest

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
