"""Money: an integer in minor units and an ISO 4217 currency. Exponents and formats come from CLDR, by Babel."""

from decimal import Decimal
from functools import cache

from babel.core import get_global
from babel.numbers import format_currency, get_currency_precision


@cache
def currencies() -> frozenset[str]:
    """Return the ISO 4217 codes that are legal tender somewhere today."""
    territories: dict[str, list[tuple[str, object, object, bool]]] = get_global("territory_currencies")  # type: ignore[assignment]
    return frozenset(
        code for tenders in territories.values() for code, _, ended, tender in tenders if tender and ended is None
    )


@cache
def exponent(currency: str) -> int:
    """Return the number of decimal places of the currency: JPY 0, USD 2, KWD 3."""
    return get_currency_precision(currency)


def major(amount: int, currency: str) -> Decimal:
    """Return major units: 2400 EUR → Decimal("24.00")."""
    return Decimal(amount).scaleb(-exponent(currency))


def minor(amount: Decimal, currency: str) -> int:
    """Return minor units: Decimal("24.00") EUR → 2400. Raises ValueError if the currency has no such fraction."""
    scaled = amount.scaleb(exponent(currency))
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise ValueError(f"{currency} has {exponent(currency)} decimal places")
    return int(scaled)


def format_money(amount: int, currency: str, locale: str = "en") -> str:
    """Return the amount as text in the locale: 2400 EUR → "€24.00"."""
    return format_currency(major(amount, currency), currency, locale=locale)
