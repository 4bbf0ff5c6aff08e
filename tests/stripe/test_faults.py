"""Every request to the provider meets every fault twice: once for the shop and once for recovery.

During the fault one shopper pays, and another one leaves. Then the fault ends, time passes, and recovery runs.
Nothing may be left in doubt.
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

FAULTS = [
    "answer_lost", "not_received", "failed", "failed_late", "unavailable", "in_use", "rate_limited", "garbage",
    "other_amount",
]  # fmt: skip
SILENCES = ["not_heard", "not_answered"]
"""The connection stays open. They are the twins of "not_received" and "answer_lost", which break it."""
EXACTLY = " "
"""Ends a prefix of "METHOD path ", so that longer paths do not match."""

CREATE, LIST = "POST /v1/checkout/sessions" + EXACTLY, "GET /v1/checkout/sessions" + EXACTLY
EXPIRE, RETRIEVE = "POST /v1/checkout/sessions/", "GET /v1/checkout/sessions/"
REFUND = "POST /v1/refunds"

TIMES = 2
"""Requests that meet the fault."""

NO_TIME_LEFT = -5.0
"""The window of recovery, in seconds, with which every shopper's time to pay is over."""

DAY = 25 * 3600
"""Seconds after which the provider has forgotten its keys and every session has expired."""


@pytest.fixture(autouse=True)
def clocks(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the gateway and the provider one clock. The shop asks once; recovery does the rest."""
    monkeypatch.setattr(requests, "time", lambda: time() + provider.state.ahead)
    monkeypatch.setattr(protocol, "ASK_PAUSE", 60.0)


@pytest.fixture
def gateway_deadline(kind: str) -> float:
    """Return few seconds for a silence, because each request that meets it takes all of them."""
    return 0.5 if kind in SILENCES else 2.0


@dataclass
class Visit:
    """One shopper's visit to the provider's page, with one kind of fault."""

    shop: Shop
    provider: Provider
    shopper: Shopper
    kind: str

    def start_payment(self, email: str) -> None:
        """Fill a basket and send the checkout form."""
        answer = form_of(self.shopper).fill(email=email).post()
        assert answer.status_code == 303

    def break_requests(self, prefix: str) -> None:
        """Let the next requests whose "METHOD path " begins with `prefix` meet the fault."""
        self.provider.fault(prefix, self.kind, TIMES)

    def receipt(self) -> Page:
        """Open the receipt of the latest charge, which is this shopper's."""
        return self.shopper.open(f"/receipts/{self.receipt_id()}")

    def receipt_id(self) -> str:
        """Return the receipt id of the latest charge, which is this shopper's."""
        return str(self.shop.value("SELECT receipt_id FROM charge ORDER BY id DESC LIMIT 1"))

    def pay(self) -> None:
        """Pay if the receipt links to a payment page. The shopper knows no other way to it."""
        if url := self.receipt().links.get("Continue to the payment page"):
            self.provider.pay(self._session(url))

    def cancel(self) -> None:
        """Press the button on the receipt that cancels the payment."""
        answer = self.receipt().submit("Give this payment up")
        # If the provider ends the session, its amount does not matter. Any other fault keeps it from answering.
        assert answer.status == (200 if self.kind == "other_amount" else 503)

    def _session(self, url: str) -> Object:
        return self.provider.state.sessions[url.rsplit("/", 1)[1]]


def create(visit: Visit, email: str, pays: bool) -> None:
    visit.break_requests(CREATE)
    visit.start_payment(email)


def retrieve(visit: Visit, email: str, pays: bool) -> None:
    visit.start_payment(email)
    visit.break_requests(RETRIEVE)
    if pays:
        visit.pay()
    assert visit.receipt().status == 200


def expire(visit: Visit, email: str, pays: bool) -> None:
    visit.start_payment(email)
    visit.break_requests(EXPIRE)
    visit.cancel()


def find_in_list(visit: Visit, email: str, pays: bool) -> None:
    """Start a payment whose session only the list can show, because its key returns a stored failure."""
    visit.provider.fault(CREATE, "failed_late")
    visit.break_requests(LIST)
    visit.start_payment(email)
    recover(visit.shop)


def refund(visit: Visit, email: str, pays: bool) -> None:
    """Refund a part of the payment of one shopper, and the whole payment of the other one."""
    visit.start_payment(email)
    visit.pay()
    assert visit.receipt().title.startswith("Paid")
    visit.break_requests(REFUND)
    with visit.shop.app.app_context():
        charge = receipts.find_charge(visit.receipt_id())
        assert charge is not None
        gateway = visit.shop.gateways.of(charge.gateway, charge.account)
        seconds = visit.shop.settings().gateway_deadline
        refunds.refund(charge, 900 if pays else charge.amount, gateway, seconds)


def settle(shop: Shop, provider: Provider) -> None:
    """Run recovery several times: when every shopper's time to pay is over, and a day later."""
    for ahead in (0, 0, DAY):
        provider.state.ahead += ahead
        recover(shop, NO_TIME_LEFT)
    assert provider.faults[-1].times < TIMES, "no request met the fault"
    provider.faults.clear()
    recover(shop, NO_TIME_LEFT)


BOTH, PAYER, NOBODY, ANYBODY = {True, False}, {True}, set[bool](), None
CALLS = {create: PAYER, retrieve: PAYER, expire: ANYBODY, find_in_list: PAYER, refund: BOTH}
"""Which of two shoppers has paid in the end: the one who pays, the one who leaves, or both. None if it depends on which
came first, paying or cancelling.
"""


def visit_all(shop: Shop, provider: Provider, kind: str, shoppers: set[bool]) -> None:
    """Let these shoppers visit the provider with a fault in each call. Then check that everything is settled."""
    paid: dict[str, set[bool]] = {call.__name__: set() for call in CALLS}
    for call, pays in product(CALLS, shoppers):
        visit = Visit(shop, provider, shop.shopper(), kind)
        call(visit, f"{call.__name__}-{pays}@example.org", pays)
        recover(shop)
        recover(shop)
        if pays:
            visit.pay()
        settle(shop, provider)
        if visit.receipt().title.startswith(("Paid", "Refunded")):
            paid[call.__name__].add(pays)
    recover_and_audit(shop)
    check_both_sides_agree(shop, provider)
    not_created = {"create": NOBODY} if kind == "failed" else {}
    expected = {call.__name__: paid[call.__name__] if who is None else who & shoppers for call, who in CALLS.items()}
    assert paid == expected | not_created


@pytest.mark.parametrize("kind", FAULTS)
def test_each_order_is_paid_once_or_not_at_all_and_nothing_stays_in_doubt(
    shop: Shop, provider: Provider, kind: str
) -> None:
    visit_all(shop, provider, kind, BOTH)


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", SILENCES)
def test_a_provider_that_falls_silent_is_like_one_that_breaks_the_connection(
    shop: Shop, provider: Provider, kind: str
) -> None:
    """Only one shopper and one engine, because each silence takes its time."""
    visit_all(shop, provider, kind, PAYER)


def check_both_sides_agree(shop: Shop, provider: Provider) -> None:
    """Check that the shop and the provider have the same payments, each once, and the same sum of refunds."""
    taken = Counter(charge["metadata"]["payonce_charge"] for charge in provider.paid())
    booked = {str(UUID(str(key))) for (key,) in shop.rows("SELECT key FROM charge WHERE status = 'succeeded'")}
    assert dict(taken) == dict.fromkeys(booked, 1)
    assert shop.value("SELECT coalesce(sum(refunded), 0) FROM charge") == sum(
        refund["amount"] for refund in provider.state.refunds.values()
    )
