"""The start: refused in one line where a setting makes no sense, and not stopped by a database that is away."""

from pathlib import Path

import httpx
import pytest

from tests.factories import ready_to_pay
from tests.processes.racing import Post, all_at_once
from tests.processes.running import RunningShop, Town


def refused(town: Town, folder: Path, **settings: str) -> str:
    """What a shop says that does not start."""
    shop = RunningShop(town.shop.database_url, town.bank.url, folder, settings=settings)
    assert shop.spawn().wait(60) != 0
    said = [line for line in shop.log.read_text().splitlines() if line.strip()]
    assert len(said) == 1, said
    assert said[0].startswith("PayOnce can't start: ")
    return said[0]


def test_another_currency_than_the_products(town: Town, tmp_path: Path) -> None:
    line = refused(town, tmp_path, SHOP_CURRENCY="USD")
    assert "SHOP_CURRENCY is USD" in line and "set SHOP_CURRENCY=EUR" in line


@pytest.mark.parametrize(("name", "value"), [("SECRET_KEY", ""), ("SECRET_KEY", "short"), ("SHOP_CURRENCY", "GOLD")])
def test_senseless_settings(town: Town, tmp_path: Path, name: str, value: str) -> None:
    assert name in refused(town, tmp_path, **{name: value})


def test_a_database_that_is_away_does_not_stop_the_start(town: Town, tmp_path: Path) -> None:
    shop = RunningShop("postgresql://nobody@127.0.0.1:9/none", town.bank.url, tmp_path, workers=1).start()
    ready = httpx.get(f"{shop.url}/readyz", timeout=60, trust_env=False)
    assert (ready.status_code, ready.text.startswith("the database can't be reached")) == (503, True)
    assert shop.shopper().open("/").status == 503
    assert shop.stop() == 0


def test_a_large_body_gets_its_answer(town: Town, email: str) -> None:
    form = ready_to_pay(town.shop.shopper(), email=email)
    form.fields["checkout_token"] = "x" * 1_000_000
    [answer] = all_at_once([Post(form)])
    assert answer.status == 413
    assert "Nothing was charged." in answer.body


def test_no_card_number_in_any_log(town: Town, email: str) -> None:
    form = ready_to_pay(town.shop.shopper(), email=email, card_number="4012 8888 8888 1881")
    assert form.submit().status == 422
    assert form.fill(card_number="4242 4242 4242 4242").submit().heading == "Paid: €24.00"
    said = town.said() + town.bank.log.read_text()
    assert "charge_succeeded" in said
    card = ("40128888", "4012 8888", "42424242", "4242 4242")
    for secret in (*card, form.fields["checkout_token"], form.fields["csrf_token"], "a secret of the tests"):
        assert secret not in said
