"""Money at Stripe that the books don't know: payments lost by a restore, and refunds made by hand whose event was lost.

The stand-in of these tests replaces Stripe.
"""

import re
from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest

from app.charges import protocol, receipts, refunds
from app.gateways.base import Outcome
from app.gateways.registry import from_settings
from app.gateways.stripe.gateway import StripeGateway
from tests.charges.test_audit import broken, command
from tests.factories import MUG, order, purchase
from tests.page import Shopper
from tests.recovery import recover, recover_and_audit
from tests.shops import Shop
from tests.stripe.gateway.payments import charged, new_payment
from tests.stripe.provider import disputes
from tests.stripe.provider import refunds as provider_refunds
from tests.stripe.provider.server import Provider, deliver
from tests.stripe.test_paying import form_of
from tests.stripe.webhooks.effects import COMPLETED

LONG_AGO = -3600.0


@pytest.fixture
def shopper(shop: Shop, provider: Provider) -> Shopper:
    """Return a shopper who has paid."""
    shopper = shop.shopper()
    form_of(shopper).post()
    provider.pay()
    assert deliver(shop.shopper().client, provider.event(COMPLETED)) == 200
    return shopper


@pytest.fixture
def reconcile(shop: Shop) -> Callable[..., tuple[int, str]]:
    def run(*words: str) -> tuple[int, str]:
        with shop.app.app_context():
            result = shop.app.test_cli_runner().invoke(args=["reconcile", *words])
        return result.exit_code, result.output

    return run


@pytest.fixture
def by_hand(shopper: Shopper, provider: Provider) -> str:
    """Refund the whole payment in the dashboard. Its event is lost. Return the provider's id of the refund."""
    provider.state.ahead = LONG_AGO
    refund = provider.refund_by_hand(provider.paid()[0]["amount"])
    provider.state.ahead = 0
    return str(refund["id"])


def test_a_refund_by_hand_whose_event_was_lost_is_named_and_taken_over(
    shop: Shop, provider: Provider, shopper: Shopper, by_hand: str, reconcile: Callable[..., tuple[int, str]]
) -> None:
    with shop.app.app_context():
        (line,) = broken(shop)[3]
    found = re.fullmatch(rf"refund (\S+) \({by_hand}\) is not in the books", line)
    assert found, line
    code, output = reconcile()
    assert (code, by_hand in output and found[1] in output) == (1, True)
    assert reconcile("--adopt", found[1])[0] == 0
    assert shop.rows("SELECT status, reason, gateway_reference FROM refund") == [
        ("succeeded", "at_the_gateway", by_hand)
    ]
    page = shopper.open(provider.session["success_url"])
    assert page.title.startswith("Refunded")
    for event in provider.state.events:  # The lost event arrives at last.
        assert deliver(shop.shopper().client, event) == 200
    assert shop.value("SELECT count(*) FROM refund") == 1
    with shop.app.app_context():
        assert (command(shop)[0], reconcile()[0]) == (0, 0)


def test_a_refund_by_hand_may_be_adopted_at_once(
    shop: Shop, provider: Provider, shopper: Shopper, reconcile: Callable[..., tuple[int, str]]
) -> None:
    """The audit still waits for its event, but nobody has to."""
    provider.refund_by_hand(1000)
    with shop.app.app_context():
        assert command(shop)[0] == 0
    key = reconcile()[1].split("€10.00  ")[1].split()[0]
    assert reconcile("--adopt", key)[0] == 0
    assert shop.value("SELECT refunded FROM charge") == 1000


@pytest.mark.parametrize("choice", ["--adopt", "--refund"])
def test_a_payment_that_the_books_have_lost_is_adopted_and_can_be_refunded(
    shop: Shop, provider: Provider, gateway: StripeGateway, choice: str, reconcile: Callable[..., tuple[int, str]]
) -> None:
    """The books know neither its session nor its request: the statement names its payment intent."""
    lost = charged(gateway, new_payment(gateway, order_random_id=str(uuid4())))
    provider.pay()
    assert gateway.lookup(lost, 5).outcome is Outcome.SUCCEEDED  # type: ignore[union-attr]
    assert reconcile()[0] == 1
    assert reconcile(choice, lost.key)[0] == 0
    [(receipt, reference)] = shop.rows("SELECT receipt_id, gateway_reference FROM charge")
    assert reference.startswith("pi_")
    with shop.app.app_context():
        if choice == "--adopt":
            assert shop.app.test_cli_runner().invoke(args=["refund", receipt]).exit_code == 0
        assert command(shop)[0] == 0
    assert [refund["amount"] for refund in provider.state.refunds.values()] == [4800]
    assert {refund["metadata"]["payonce_shop"] for refund in provider.state.refunds.values()} == {"test-shop"}


def test_another_shop_at_the_same_account_is_foreign(
    shop: Shop, provider: Provider, gateway: StripeGateway, reconcile: Callable[..., tuple[int, str]]
) -> None:
    other = shop.another(shop_id="another-shop")
    theirs = from_settings(other.settings()).current
    assert isinstance(theirs, StripeGateway)
    lost = charged(theirs, new_payment(theirs))
    provider.pay()
    provider.state.ahead = LONG_AGO
    provider.refund_by_hand(100)
    provider.state.ahead = 0
    assert reconcile() == (0, "Only at the gateway: 0\n")
    with shop.app.app_context():
        code, report = command(shop)
    assert (code, len(report["foreign"])) == (0, 2)
    assert any(lost.key in line for line in report["foreign"])


def test_a_late_event_about_an_adopted_payment_finds_its_session(
    shop: Shop, provider: Provider, gateway: StripeGateway, reconcile: Callable[..., tuple[int, str]]
) -> None:
    lost = charged(gateway, new_payment(gateway))
    provider.pay()
    assert reconcile("--adopt", lost.key)[0] == 0
    provider.refund_by_hand(300)
    client: httpx.Client = shop.shopper().client
    assert [deliver(client, event) for event in provider.state.events] == [200] * len(provider.state.events)
    assert shop.value("SELECT refunded FROM charge") == 300


def test_whatever_event_was_lost_a_look_records_the_present_state(
    shop: Shop, provider: Provider, shopper: Shopper, reconcile: Callable[..., tuple[int, str]]
) -> None:
    """A refund fails after it had succeeded, and the payment is disputed. No event of either arrives."""
    receipt_id = shop.value("SELECT receipt_id FROM charge")
    with shop.app.app_context():
        charge = receipts.find_charge(receipt_id)
        assert charge is not None
        assert refunds.refund(charge, 400, shop.gateways.current, 20) == "succeeded"  # type: ignore[attr-defined]
        (refund,) = provider.state.refunds.values()
        provider_refunds.change(provider.state, refund, "failed")
        disputes.open_(provider.state, provider.paid()[0])
        provider.state.ahead = 3600
        assert 7 in broken(shop)
    for _ in range(2):
        assert reconcile("--look", receipt_id)[0] == 0
        assert shop.rows("SELECT status FROM refund") == [("failed",)]
        assert shop.rows("SELECT status FROM dispute") == [("open",)]
        with shop.app.app_context():
            assert broken(shop) == {}


def test_a_payment_of_another_amount_ends_by_a_look_once_it_was_refunded_there(
    shop: Shop, provider: Provider, reconcile: Callable[..., tuple[int, str]]
) -> None:
    stock = shop.stock(MUG)
    form_of(shop.shopper()).post()
    provider.session["amount_total"] += 1
    provider.pay()
    recover(shop)
    [(receipt_id, alarm)] = shop.rows("SELECT receipt_id, attention FROM charge")
    assert f"reconcile --look {receipt_id}" in alarm
    for part in (1, provider.session["amount_total"] - 1):
        code, said = reconcile("--look", receipt_id)
        assert (code, "refund it there" in said) == (1, True)
        provider.refund_by_hand(part)
    for _ in range(2):
        assert reconcile("--look", receipt_id)[0] == 0
    provider.state.ahead = 3600
    assert (shop.value("SELECT status FROM charge"), shop.stock(MUG)) == ("canceled", stock)
    recover_and_audit(shop)


def test_a_look_at_what_does_not_exist_or_sends_no_events_is_refused(
    shop: Shop, reconcile: Callable[..., tuple[int, str]]
) -> None:
    assert reconcile("--look", "0" * 36) == (1, "Error: there is no such receipt\n")
    with shop.app.app_context():
        charge = protocol.pay(purchase(order()), shop.gateway, 3.0)
    shop.gateways.use(shop.gateway)
    code, printed = reconcile("--look", charge.receipt_id)
    assert (code, "sandbox sends no events" in printed) == (1, True)
