"""Forms that are still open after the database was restored to an earlier moment, in which their order is missing.

Restoring starts the counters again, so the next order gets the id of the lost one. The database is really put back.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from time import time

import httpx
import pytest

from app.database import db
from app.orders.unused import PURGED_AFTER
from tests.factories import ASKS_SHOPPER, MUG, fill_basket, ready_to_pay
from tests.recovery import is_listed, run_audit
from tests.shops import Shop

LOST = "We have no record of this order"


@pytest.fixture
def restore(shop: Shop, engine_name: str, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Put the database back to the moment before the first order."""

    def put_back() -> None:
        with shop.app.app_context():
            db.engine.dispose()
        if engine_name == "postgresql":
            request.getfixturevalue("postgres_reused")()
            return
        path = Path(shop.database_url.removeprefix("sqlite:///"))
        for file in path.parent.glob(f"{path.name}-*"):
            file.unlink()
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)

    return put_back


def ids(shop: Shop) -> list[int]:
    return [row.id for row in shop.rows("SELECT id FROM orders ORDER BY id")]


def test_an_old_form_is_not_charged_for_a_stranger_s_basket(shop: Shop, restore: Callable[[], None]) -> None:
    form = ready_to_pay(shop.shopper())
    before = ids(shop)
    restore()
    stranger = shop.shopper()
    fill_basket(stranger)
    assert ids(shop) == before, "the stranger's order has the lost order's id"
    page = form.submit()
    assert (page.status, page.heading) == (404, LOST)
    assert "Do not pay again before you have asked us." in page.text
    assert (shop.charges(), shop.statement(), shop.stock(MUG)) == ({}, [], 200)
    assert stranger.open("/basket").heading == "Your basket"


def test_a_form_that_was_paid_is_not_led_to_a_stranger_s_receipt(shop: Shop, restore: Callable[[], None]) -> None:
    """Its payment is lost here, but the bank has the money: the page gives the key by which it can be found."""
    form = ready_to_pay(shop.shopper())
    assert form.submit().heading == "Paid: €24.00"
    restore()
    stranger = ready_to_pay(shop.shopper(), name="Somebody Else").submit()
    page = form.submit()
    assert (page.status, page.heading) == (404, LOST)
    assert "Somebody Else" not in page.text
    assert shop.statement()[0].key in page.text
    assert len(shop.statement()) == 2, "the lost payment and the stranger's"
    assert is_listed(run_audit(shop), shop.statement()[0].key)
    assert stranger.shopper.open(stranger.path).heading == "Paid: €24.00"


class WhileTheBankIsAsked(httpx.BaseTransport):
    """The network to the bank. After the first charge there, and before its answer arrives, `event` happens."""

    def __init__(self, shop: Shop, event: Callable[[], None]) -> None:
        self.inner, self.event = httpx.WSGITransport(app=shop.bank), event

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        body = httpx.ByteStream(response.read())
        if request.url.path == "/v1/charges":
            event, self.event = self.event, lambda: None
            event()
        return httpx.Response(response.status_code, headers=response.headers, stream=body)


def test_an_outcome_is_not_recorded_on_a_stranger_s_charge(shop: Shop, restore: Callable[[], None]) -> None:
    """The request survives the restore, and a stranger's charge that waits for its shopper gets the lost one's id."""
    form = ready_to_pay(shop.shopper())
    strangers = []

    def restore_and_pay() -> None:
        restore()
        strangers.append(ready_to_pay(shop.shopper(), card_number=ASKS_SHOPPER).post())

    shop.use_transport(WhileTheBankIsAsked(shop, restore_and_pay))
    page = form.submit()
    assert (page.status, page.heading) == (404, LOST)
    assert [response.status_code for response in strangers] == [303]
    assert shop.charges() == {"requires_action": 1}, "the stranger has not paid"
    [lost] = shop.statement()
    assert lost.key in page.text
    assert is_listed(run_audit(shop), lost.key)


def test_the_same_buyer_s_new_basket_is_not_charged_by_an_old_form(shop: Shop, restore: Callable[[], None]) -> None:
    """The id is the lost order's and the buyer is the same; only the random id and the version differ."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    restore()
    fill_basket(shopper)
    assert form.submit().heading == LOST
    assert (shop.charges(), shop.statement()) == ({}, [])


def test_a_basket_that_was_cleared_says_so(
    shop: Shop, restore: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.charges.tokens.time", lambda: time() - PURGED_AFTER - 60)
    form = ready_to_pay(shop.shopper())
    monkeypatch.undo()
    restore()
    page = form.submit()
    assert (page.status, page.heading) == (410, "This basket was cleared after 30 days")
    assert "This try took no money." in page.text
    assert shop.statement() == []


def test_a_form_of_the_earlier_version_is_shown_anew(shop: Shop) -> None:
    """Its token names the order by its counter, which can't be trusted any more."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    [(order_id, buyer_id)] = shop.rows("SELECT id, buyer_id FROM orders")
    signer = shop.app.extensions["payonce"].tokens._signer
    buyer = str(buyer_id).replace("-", "")
    form.fields["checkout_token"] = signer.dumps([1, "0" * 32, order_id, 2, buyer, 2400, "EUR", 0])
    page = form.submit()
    assert page.status == 409
    assert shop.statement() == []
    assert page.form("Pay").fill(
        card_number="4242 4242 4242 4242", card_expiry="12/49", card_cvc="123"
    ).submit().heading == ("Paid: €24.00")
