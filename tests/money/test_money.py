"""Money: whole minor units, the exponent of each currency, and conversion without loss."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import money


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [(2400, "EUR", "€24.00"), (2400, "USD", "$24.00"), (2400, "JPY", "¥2,400"), (24000, "KWD", "KWD24.000"),
     (1, "USD", "$0.01"), (1, "KWD", "KWD0.001"), (0, "EUR", "€0.00"), (123_456_789, "EUR", "€1,234,567.89")],
)  # fmt: skip
def test_an_amount_is_formatted_in_its_currency(amount: int, currency: str, shown: str) -> None:
    assert money.format_money(amount, currency).replace("\xa0", "") == shown


def test_an_amount_is_formatted_for_the_readers_locale() -> None:
    assert money.format_money(123_456, "EUR", "de").replace("\xa0", " ") == "1.234,56 €"


@pytest.mark.parametrize(("currency", "places"), [("JPY", 0), ("USD", 2), ("EUR", 2), ("KWD", 3), ("BHD", 3)])
def test_exponents(currency: str, places: int) -> None:
    assert money.exponent(currency) == places


@given(st.integers(-(10**15), 10**15), st.sampled_from(["USD", "EUR", "JPY", "KWD"]))
def test_converting_to_major_units_and_back_is_lossless(amount: int, currency: str) -> None:
    assert money.minor(money.major(amount, currency), currency) == amount


INVALID = [("0.5", "JPY"), ("0.001", "EUR"), ("0.0001", "KWD"), ("NaN", "EUR"), ("Infinity", "EUR")]


@pytest.mark.parametrize(("amount", "currency"), INVALID)
def test_too_many_decimal_places_are_refused(amount: str, currency: str) -> None:
    with pytest.raises(ValueError, match="decimal places"):
        money.minor(Decimal(amount), currency)


def test_only_current_currencies_are_known() -> None:
    assert {"USD", "EUR", "JPY", "KWD"} <= money.currencies()
    assert not {"DEM", "XXX", "GOLD", "eur", ""} & money.currencies()
