"""The provider's currencies: decimal places, least and largest amounts, as in the provider's documentation."""

from app import money
from app.gateways.base import NotPayable


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


ZERO_DECIMAL = _codes("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF")
"""ISK and UGX are not in this list. They have no fraction either, but the provider counts them in hundredths."""

THREE_DECIMAL = _codes("BHD JOD KWD OMR TND")
"""Amounts must be multiples of ten, because card networks have no third decimal place."""

SUPPORTED = _codes(
    """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP
    CNY COP CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR
    ISK JMD JOD JPY KES KGS KHR KMF KRW KWD KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MUR MVR MWK MXN
    MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP SLE
    SOS SRD SZL THB TJS TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW
    """
)

LEAST = {
    "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50,
    "GBP": 30, "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50,
    "PLN": 200, "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip
"""In the provider's units. For other currencies the least amount depends on the account; the provider refuses less."""

MOST = 99_999_999
"""In the provider's units: eight digits."""


def supported(currency: str) -> bool:
    """Return whether the provider accepts the currency and counts it in units that are not larger than ours."""
    return currency in SUPPORTED and _exponent(currency) >= money.exponent(currency)


def to_provider(amount: int, currency: str) -> int:
    """Convert our minor units to the provider's: 5 ISK → 500, 2400 EUR → 2400."""
    return amount * _factor(currency)


def from_provider(amount: int, currency: str) -> int:
    """Convert the provider's units to our minor units, rounded down. Amounts that we sent are never rounded."""
    return amount // _factor(currency) if supported(currency) else amount


def check(amount: int, currency: str) -> None:
    """Raise NotPayable if the provider would refuse the amount (our minor units)."""
    theirs, factor = to_provider(amount, currency), _factor(currency)
    if theirs < LEAST.get(currency, 0):
        raise NotPayable("too_little", -(-LEAST[currency] // factor))
    if theirs > MOST:
        raise NotPayable("too_much", MOST // factor)
    if not can_express(amount, currency):
        raise NotPayable("step", 10)


def can_express(amount: int, currency: str) -> bool:
    """Return whether the provider can express the amount (our minor units)."""
    return currency not in THREE_DECIMAL or amount % 10 == 0


def _exponent(currency: str) -> int:
    if currency in THREE_DECIMAL:
        return 3
    return 0 if currency in ZERO_DECIMAL else 2


def _factor(currency: str) -> int:
    return int(10 ** (_exponent(currency) - money.exponent(currency)))
