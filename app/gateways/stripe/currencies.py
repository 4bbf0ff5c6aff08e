"""The provider's currencies: its own exponents, and the least and most that it takes. As its documentation says."""

from app import money
from app.gateways.base import NotPayable


def _codes(words: str) -> frozenset[str]:
    return frozenset(words.split())


ZERO_DECIMAL = _codes("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF")
"""Not among them: ISK and UGX. They have no fraction either, but are still written with two zeros there."""

THREE_DECIMAL = _codes("BHD JOD KWD OMR TND")
"""Amounts must be multiples of ten: card networks know no third decimal place."""

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
"""In the provider's units. For a currency that is not here it depends on the account; then the provider says so."""

MOST = 99_999_999
"""Eight digits, in the provider's units."""


def supported(currency: str) -> bool:
    """Whether the provider takes it, and counts it in no larger unit than we do."""
    return currency in SUPPORTED and _exponent(currency) >= money.exponent(currency)


def to_provider(amount: int, currency: str) -> int:
    """Our minor units → the provider's: 5 ISK → 500, 2400 EUR → 2400."""
    return amount * _factor(currency)


def from_provider(amount: int, currency: str) -> int:
    """The provider's units → ours. What is no whole number of ours (never ours, then) is rounded down."""
    return amount // _factor(currency) if supported(currency) else amount


def check(amount: int, currency: str) -> None:
    """Raises NotPayable where the provider would refuse the amount (our minor units) whoever pays it."""
    theirs, factor = to_provider(amount, currency), _factor(currency)
    if theirs < LEAST.get(currency, 0):
        raise NotPayable("too_little", -(-LEAST[currency] // factor))
    if theirs > MOST:
        raise NotPayable("too_much", MOST // factor)
    if not in_steps(amount, currency):
        raise NotPayable("step", 10)


def in_steps(amount: int, currency: str) -> bool:
    """Whether the provider can express the amount (our minor units)."""
    return currency not in THREE_DECIMAL or amount % 10 == 0


def _exponent(currency: str) -> int:
    if currency in THREE_DECIMAL:
        return 3
    return 0 if currency in ZERO_DECIMAL else 2


def _factor(currency: str) -> int:
    return int(10 ** (_exponent(currency) - money.exponent(currency)))
