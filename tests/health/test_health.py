"""For machines: alive, ready, and figures."""

from pathlib import Path

import pytest

from tests.shops import Shop


def test_alive_and_ready(shop: Shop) -> None:
    client = shop.shopper().client
    for path, text in (("/healthz", "alive\n"), ("/readyz", "ready\n")):
        answer = client.get(path)
        assert (answer.status_code, answer.text) == (200, text)
        assert answer.headers["Cache-Control"] == "no-store"


def test_readyz_says_that_the_database_is_away(own_url: str, engine_name: str, tmp_path: Path,
                                               request: pytest.FixtureRequest) -> None:  # fmt: skip
    shop = Shop(own_url, tmp_path)
    client = shop.shopper().client
    assert client.get("/readyz").status_code == 200
    shop.close()
    if engine_name == "sqlite":
        (tmp_path / "storage").rename(tmp_path / "gone")
    else:
        server = request.getfixturevalue("postgres")
        server.drop(own_url.rpartition("/")[2].partition("?")[0])
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.text.startswith("the database can't be reached")
    assert client.get("/healthz").status_code == 200, "still alive"
    shop.close()


def test_metrics_are_figures(shop: Shop) -> None:
    client = shop.shopper().client
    client.get("/")
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
