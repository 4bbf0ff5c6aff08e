"""Every currency has its own number of decimal places. A shop has one currency permanently."""

from collections.abc import Callable

import pytest
from flask import Flask

from app.database import Unreachable
from app.orders import currency
from app.orders.catalogue import CATALOGUE
from app.orders.seed import seed
from app.settings import SettingsError
from tests.conftest import migrate
from tests.factories import MUG, fields, fill_basket
from tests.shops import Shop

PRICES = {"USD": (2400, "$48.00"), "EUR": (2400, "€48.00"), "JPY": (2400, "¥4,800"), "KWD": (24000, "KWD48.000")}


@pytest.mark.parametrize("code", PRICES)
def test_a_shop_sells_in_any_currency(code: str, make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(shop_currency=code)
    price, total = PRICES[code]
    shop.execute("DELETE FROM product")
    with shop.app.app_context():
        assert seed(code) == len(CATALOGUE)
    assert shop.rows("SELECT DISTINCT currency FROM product") == [(code,)]
    assert shop.value(f"SELECT price FROM product WHERE slug = '{MUG}'") == price
    shopper = shop.shopper()
    page = fill_basket(shopper, quantity=2).follow("Go to checkout")
    assert total in page.text.replace("\xa0", "")
    receipt = page.submit("Pay", **fields())
    assert receipt.heading.replace("\xa0", "") == f"Paid: {total}"
    [moved] = shop.statement()
    assert (moved.amount, moved.currency) == (2 * price, code)


def test_seeding_again_changes_nothing(shop: Shop, app: Flask) -> None:
    shop.execute("UPDATE product SET stock = 1")
    assert seed("EUR") == 0
    assert shop.stock(MUG) == 1


def test_the_catalogue_is_complete() -> None:
    assert len(CATALOGUE) >= 8
    assert len({piece.slug for piece in CATALOGUE}) == len(CATALOGUE)
    assert all(piece.description and piece.stock > 0 and piece.price > 0 for piece in CATALOGUE)


def test_a_currency_other_than_that_of_the_products_is_refused_in_one_line(shop: Shop, app: Flask) -> None:
    currency.refuse_other("EUR")
    with pytest.raises(SettingsError) as caught:
        currency.refuse_other("USD")
    message = str(caught.value)
    assert "SHOP_CURRENCY" in message and "EUR" in message and "\n" not in message


def test_an_empty_shop_takes_any_currency(shop: Shop, app: Flask) -> None:
    shop.execute("DELETE FROM product")
    currency.refuse_other("USD")


def test_a_database_that_is_not_migrated_is_not_checked(empty_url: str, tmp_path: object) -> None:
    shop = Shop(empty_url, tmp_path)  # type: ignore[arg-type]
    with shop.app.app_context():
        currency.refuse_other("USD")
    shop.close()


def test_a_database_that_cannot_be_reached_is_not_checked(
    shop: Shop, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> None:
        raise Unreachable("no connection")

    monkeypatch.setattr(currency, "reading", unreachable)
    currency.refuse_other("USD")


def test_every_command_refuses_another_currency_except_those_that_repair_the_database(
    make_shop: Callable[..., Shop],
) -> None:
    shop = make_shop(shop_currency="USD")
    run = shop.app.test_cli_runner()
    with shop.app.app_context():
        for name in sorted(set(shop.app.cli.list_commands(None)) - {"db", "sandbox", "lab"}):  # type: ignore[arg-type]
            args = [name, "00000000-0000-0000-0000-000000000000"] if name in {"refund", "story"} else [name]
            result = run.invoke(args=args)
            assert result.exit_code == 1, (name, result.output)
            assert result.output.startswith("Error: SHOP_CURRENCY is USD"), (name, result.output)
            assert result.output.count("\n") == 1


def test_commands_say_in_one_line_that_the_database_is_not_migrated(empty_url: str, tmp_path: object) -> None:
    shop = Shop(empty_url, tmp_path)  # type: ignore[arg-type]
    with shop.app.app_context():
        result = shop.app.test_cli_runner().invoke(args=["seed"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "db upgrade" in result.output
    shop.close()


def test_migrating_and_seeding_twice_is_safe(empty_url: str) -> None:
    migrate(empty_url)
    migrate(empty_url)
