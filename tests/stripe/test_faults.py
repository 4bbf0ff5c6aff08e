"""Every question to the provider, with all that may go wrong there, twice: once for the shop and once for recovery.

Meanwhile one shopper pays and another walks away. Then the provider is well again, time goes by, recovery looks after
what is open, and nothing may be left in doubt.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import product
from time import time
from uuid import UUID

import pytest

from app.charges import protocol, receipts, refunds
from app.gateways.stripe import requests
from tests.page import Page, Shopper
from tests.recovery import recover, recover_and_audit
from tests.shops import Shop
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import Object
from tests.stripe.test_paying import form_of

pytestmark = pytest.mark.slow

FAULTS = ["lost", "unheard", "fell", "fell_late", "away", "in_use", "busy", "garbage", "other"]
EXACTLY = " "
MAKE, LIST = "POST /v1/checkout/sessions" + EXACTLY, "GET /v1/checkout/sessions" + EXACTLY
EXPIRE, RETRIEVE = "POST /v1/checkout/sessions/", "GET /v1/checkout/sessions/"
REFUND = "POST /v1/refunds"

TIMES = 2

OVER = -5.0
"""The window (seconds) of recovery when every shopper's time is over."""

DAY = 25 * 3600
"""Seconds after which the provider has forgotten its keys, and every session has ended."""


@pytest.fixture(autouse=True)
def clocks(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clocks go together. The shop asks once and leaves the rest to recovery."""
    monkeypatch.setattr(requests, "time", lambda: time() + provider.state.ahead)
    monkeypatch.setattr(protocol, "ASK_PAUSE", 60.0)


@dataclass
class Buying:
    """One shopper's way to the provider's page and back, with the provider's faults on it."""

    shop: Shop
    provider: Provider
    shopper: Shopper
    kind: str

    def goes_to_pay(self, email: str) -> None:
        answer = form_of(self.shopper).fill(email=email).post()
        assert answer.status_code == 303

    def breaks(self, where: str) -> None:
        self.provider.fault(where, self.kind, TIMES)

    def receipt(self) -> Page:
        return self.shopper.open(f"/receipts/{self.number()}")

    def number(self) -> UUID:
        """Of the latest receipt, which is this shopper's."""
        return str(self.shop.value("SELECT receipt_id FROM charge ORDER BY id DESC LIMIT 1"))

    def pays(self) -> None:
        """If there is a page to pay on: nobody else can lead them there."""
        if url := self.receipt().links.get("Continue to the payment page"):
            self.provider.pay(self._session(url))

    def gives_up(self) -> None:
        answer = self.receipt().submit("Give this payment up")
        assert answer.status in {200, 503}, "503: the provider could not be asked, and the page says so"

    def _session(self, url: str) -> Object:
        return self.provider.state.sessions[url.rsplit("/", 1)[1]]


def making(buying: Buying, email: str, pays: bool) -> None:
    buying.breaks(MAKE)
    buying.goes_to_pay(email)


def retrieving(buying: Buying, email: str, pays: bool) -> None:
    buying.goes_to_pay(email)
    buying.breaks(RETRIEVE)
    if pays:
        buying.pays()
    assert buying.receipt().status == 200


def expiring(buying: Buying, email: str, pays: bool) -> None:
    buying.goes_to_pay(email)
    buying.breaks(EXPIRE)
    buying.gives_up()


def listing(buying: Buying, email: str, pays: bool) -> None:
    """The session was made, but the key brings back nothing but a failure: only the list has it."""
    buying.provider.fault(MAKE, "fell_late")
    buying.breaks(LIST)
    buying.goes_to_pay(email)
    recover(buying.shop)


def refunding(buying: Buying, email: str, pays: bool) -> None:
    """In part, or all of it; who walks away has taken the goods."""
    buying.goes_to_pay(email)
    buying.pays()
    assert buying.receipt().title.startswith("Paid")
    buying.breaks(REFUND)
    with buying.shop.app.app_context():
        charge = receipts.find_charge(buying.number())
        assert charge is not None
        gateway = buying.shop.gateways.of(charge.gateway, charge.account)
        refunds.refund(charge, 900 if pays else charge.amount, gateway, 2)


def settle(shop: Shop, provider: Provider) -> None:
    """Recovery, again and again: while somebody may still come, when everybody's time is over, and a day later."""
    for ahead in (0, 0, DAY):
        provider.state.ahead += ahead
        recover(shop, OVER)
    assert provider.faults[-1].times < TIMES, "the fault was never met"
    provider.faults.clear()
    recover(shop, OVER)


CALLS = {making: 1, retrieving: 1, expiring: None, listing: 1, refunding: 2}
"""How many of the two have paid in the end; None: whoever was first, the page or the giving up."""


@pytest.mark.parametrize("kind", FAULTS)
def test_once_or_not_at_all_and_nothing_left_in_doubt(shop: Shop, provider: Provider, kind: str) -> None:
    paid: Counter[str] = Counter()
    for call, pays in product(CALLS, (True, False)):
        buying = Buying(shop, provider, shop.shopper(), kind)
        call(buying, f"{call.__name__}-{pays}@example.org", pays)
        recover(shop)
        recover(shop)
        if pays:
            buying.pays()
        settle(shop, provider)
        paid[call.__name__] += buying.receipt().title.startswith(("Paid", "Refunded"))
    recover_and_audit(shop)
    agree(shop, provider)
    never_made = {"making": 0} if kind == "fell" else {}
    expected = {call.__name__: paid[call.__name__] if many is None else many for call, many in CALLS.items()}
    assert paid == expected | never_made


def agree(shop: Shop, provider: Provider) -> None:
    """Ours and theirs: who is paid here has paid there, once, and the other way round."""
    taken = Counter(charge["metadata"]["payonce_charge"] for charge in provider.paid())
    booked = {str(UUID(str(key))) for (key,) in shop.rows("SELECT key FROM charge WHERE status = 'succeeded'")}
    assert dict(taken) == dict.fromkeys(booked, 1)
    assert shop.value("SELECT coalesce(sum(refunded), 0) FROM charge") == sum(
        refund["amount"] for refund in provider.state.refunds.values()
    )
