"""Pages claim only what is known in their case, first of all about money.

Some states are written into the database directly, because no gateway of the tests leads to them. The words do not
depend on the database, so SQLite is enough.
"""

from datetime import UTC, datetime, timedelta

import pytest

from app.charges import protocol
from app.gateways.base import Answer, Outcome
from tests.factories import ASKS_SHOPPER, DECLINES, ready_to_pay
from tests.page import Page
from tests.shop.test_receipts import charge_of, promise_refund
from tests.shop.test_three_d_secure import SilentBank, pay
from tests.shops import Shop

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)

NOTHING_TAKEN = ("Nothing was charged", "No money", "no money was taken", "nothing is taken")


def claims_nothing_about_money(page: Page) -> bool:
    """Return whether the page leaves open if money was taken."""
    return not [claim for claim in NOTHING_TAKEN if claim in page.text]


def test_a_paid_form_whose_secret_is_gone_does_not_say_that_nothing_was_charged(shop: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    assert form.submit().heading == "Paid: €24.00"
    after = shop.another(secret_key="the new secret, as long as it must be")
    shopper.client._transport = after.shopper().client._transport
    page = form.submit()
    assert (page.status, page.heading) == (400, "We can't read this payment form")
    assert "Nothing was charged" not in page.text
    assert "If you have pressed Pay before, see your payments and your e-mail first" in page.text
    listed = page.follow("Your payments")
    assert listed.path == "/receipts"
    assert "There are none" not in listed.text, "the cookie can't be read either"
    assert "if this browser’s cookies were cleared" in listed.text
    after.close()


def test_a_paid_form_that_is_sent_in_a_broken_way_does_not_say_that_nothing_was_charged(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    assert form.submit().heading == "Paid: €24.00"
    shopper, token = form.page.shopper, form.fields["checkout_token"]
    pages = {
        "cut short": form.fill(checkout_token=token[:-1]).submit(),
        "too large": form.fill(checkout_token="x" * 70_000).submit(),
        "no form": shopper.follow_redirects(shopper.client.post("/checkout", json={"checkout_token": token})),
        "wrong method": shopper.follow_redirects(shopper.client.put("/checkout", data=form.fields)),
    }
    for case, page in pages.items():
        assert page.status >= 400, case
        assert "Nothing was charged" not in page.text, case


def test_a_paid_receipt_whose_cancel_form_is_stale_does_not_say_that_nothing_was_charged(shop: Shop) -> None:
    receipt = ready_to_pay(shop.shopper()).submit()
    page = receipt.shopper.follow_redirects(receipt.shopper.post(f"{receipt.path}/cancel", {}))
    assert page.status == 400
    assert "Nothing was charged" not in page.text


def test_an_unknown_receipt_asks_not_to_pay_again(shop: Shop) -> None:
    page = shop.shopper().open("/receipts/00000000-0000-0000-0000-000000000000")
    assert (page.status, page.heading) == (404, "We have no payment at this address")
    assert "ask us before you pay again" in page.text


def test_an_earlier_order_is_not_dated_wrongly(shop: Shop) -> None:
    """The first payment was in doubt for 20 hours before the bank confirmed it."""
    shopper = shop.shopper()
    ready_to_pay(shopper).submit()
    shop.execute("UPDATE charge SET created_at = :then", then=datetime.now(UTC) - timedelta(hours=20))
    page = ready_to_pay(shopper).submit()
    assert "You have ordered just this before, 20 hours ago, for €24.00." in page.text
    stranger = ready_to_pay(shop.shopper()).submit()
    assert stranger.status == 409
    assert "ago" not in stranger.text, "true for every age, and another browser does not learn it"


def test_while_the_outcome_is_not_known_nothing_is_claimed(shop: Shop) -> None:
    """A claimed charge may belong to a process that died before it asked the bank."""
    form = ready_to_pay(shop.shopper())
    shop.gateways.use(Dying(shop))  # type: ignore[arg-type]
    assert form.post().status_code == 500
    for heading in ("Your payment is being confirmed", "Your payment is still being confirmed"):
        page = form.submit()
        assert page.heading == heading
        assert claims_nothing_about_money(page)
        assert [claim for claim in ("We have asked", "We keep asking") if claim in page.text] == []
        shop.execute("UPDATE charge SET status = 'in_doubt'")


class Dying:
    """A gateway client that fails before it sends anything, as if the process had been killed."""

    def __init__(self, shop: Shop) -> None:
        self.inner = shop.gateway

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def charge(self, *_args: object) -> Answer:
        raise SystemError("killed")


def test_a_payment_that_was_perhaps_confirmed_is_not_called_untaken(shop: Shop) -> None:
    """The shopper has confirmed at the bank, and the bank can't be asked now. Later it can."""
    shopper = shop.shopper()
    bank_page, receipt = pay(shop, shopper)
    assert "No money has been taken yet." in shopper.open(receipt).text
    bank_page.decide()
    shop.gateways.use(SilentBank())  # type: ignore[arg-type]
    page = shopper.open(receipt)
    assert claims_nothing_about_money(page)
    assert "We could not ask the bank just now whether this payment was confirmed." in page.text
    assert claims_nothing_about_money(page.submit("Give this payment up"))
    assert claims_nothing_about_money(shop.shopper().open(receipt)), "another browser's reading asks nobody"
    shop.gateways.use(shop.gateway)
    assert page.reload().heading == "Paid: €24.00"


STRAY = {
    "processing": ("We are giving all of it back", "Being given back"),
    "in_doubt": ("We are giving all of it back", "Being given back"),
    "succeeded": ("All of it has been given back", "Given back"),
    "failed": ("that has not succeeded as far as we know", "Return not confirmed yet"),
    "declined": ("that has not succeeded as far as we know", "Return not confirmed yet"),
    "withdrawn": ("that has not succeeded as far as we know", "Return not confirmed yet"),
}


@pytest.mark.parametrize("states", [["processing", "in_doubt", "succeeded", "failed"], ["declined"], ["withdrawn"]])
def test_a_stray_payment_is_given_back_only_if_it_is(shop: Shop, states: list[str]) -> None:
    receipt = ready_to_pay(shop.shopper(), card_number=DECLINES).submit()
    with shop.app.app_context():
        protocol.record(charge_of(receipt), Answer(Outcome.SUCCEEDED))
    for status in states:
        if status != "processing":
            ended = "NULL" if status == "in_doubt" else "created_at"
            shop.execute(f"UPDATE refund SET status = :status, ended_at = {ended}", status=status)
        page, (words, listed) = receipt.reload(), STRAY[status]
        assert words in page.text
        assert claims_nothing_about_money(page)
        assert page.title.startswith(listed)
        assert ("has been given back" in page.text) == (status == "succeeded")


def test_a_refund_is_called_done_only_if_it_is(shop: Shop) -> None:
    receipt = ready_to_pay(shop.shopper()).submit()
    promise_refund(shop, receipt, 2400)
    page = receipt.reload()
    assert page.heading == "Paid: €24.00"
    assert "We are giving €24.00 back. This page will say when the bank has confirmed it." in page.text
    assert "on its way" not in page.text
    shop.execute("UPDATE refund SET status = 'in_doubt'")
    assert receipt.reload().text == page.text
    shop.execute("UPDATE refund SET status = 'succeeded', ended_at = created_at")
    assert receipt.reload().heading == "Refunded"


def test_a_canceled_payment_does_not_say_more_than_that(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper(), card_number=ASKS_SHOPPER)
    form.post()
    page = form.submit().submit("Give this payment up")
    assert "You gave" not in shop.shopper().open(page.path).text, "another reader did not"
    for reason in ("fenced", "expired", "requested_by_customer", None):
        shop.execute("UPDATE charge SET reason = :reason", reason=reason)
        assert page.reload().heading == "Nothing was charged"
        assert "did not reach" not in page.reload().text
