"""A commit whose answer is lost is neither success nor failure: it is probed, and everything ends in the truth."""

import time
from collections.abc import Callable

import pytest

from app.charges import arrivals, protocol
from app.charges.protocol import ClaimUnknown
from app.charges.states import CANCELED, PROCESSING, SUCCEEDED
from app.database import db
from tests.factories import checkout_form, order, purchase, ready_to_pay
from tests.faults.commits import CLAIM, RECORD, Cut, PostgresProxy, sides
from tests.faults.rounds import TIMES, say
from tests.healing import heal, unsettled
from tests.postgres import Cluster
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(180 + 60 * TIMES)]

NAMES = {CLAIM: "claim", RECORD: "record"}
EACH = 5 * TIMES
IN_TRANSACTION = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state LIKE 'idle in transaction%%'"


@pytest.fixture
def shop(open_shop: Callable[..., Shop], proxy: PostgresProxy, database: str) -> Shop:
    return open_shop(proxy.url(database))


def no_leak(cluster: Cluster, database: str) -> None:
    """Nothing is left open, at neither end."""
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    end = time.monotonic() + 20
    while cluster.execute(IN_TRANSACTION, database) != [(0,)]:
        assert time.monotonic() < end, "a transaction was left open"
        time.sleep(0.05)


@pytest.mark.parametrize(("statement", "side"), sides(), ids=lambda each: NAMES.get(each, each))
def test_a_lost_commit_charges_once(
    shop: Shop, proxy: PostgresProxy, cluster: Cluster, database: str, statement: bytes, side: str
) -> None:
    """The claim is made again with the same receipt, the record finds what was written: paid, in the same request."""
    with shop.app.app_context():
        for _ in range(EACH):
            press = purchase(order())
            proxy.cut = Cut(statement, side)
            charge = protocol.pay(press, shop.gateway, 3.0)
            assert proxy.cut is None
            assert (charge.receipt_id, charge.status) == (press.receipt_id, SUCCEEDED)
            again = protocol.pay(purchase(press.token), shop.gateway, 3.0)
            assert (again.receipt_id, again.status) == (press.receipt_id, SUCCEEDED)
        assert (proxy.cuts, shop.charges(), len(shop.statement())) == (EACH, {SUCCEEDED: EACH}, EACH)
        heal(shop)
        no_leak(cluster, database)
    say(f"commits lost, at the {NAMES[statement]}, {side}", cuts=proxy.cuts)


@pytest.mark.parametrize("side", ["before", "after", "late"])
def test_where_the_probe_fails_too_the_page_says_wait(
    shop: Shop, proxy: PostgresProxy, cluster: Cluster, database: str, side: str
) -> None:
    """Nobody knows whether the claim stands, so the bank is not asked for it. It ends without money, or never was."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    proxy.cut = Cut(CLAIM, side, away=True)
    page = form.submit()
    assert (page.status, page.heading) == (503, "Please wait before you pay again")
    assert "The bank was not asked, so this try took no money." in page.text
    assert shop.statement() == []
    assert form.submit().status == 503
    proxy.come_back()

    again = form.submit()
    assert again.statuses == [303, 200]
    if again.heading == "Your payment is being confirmed":  # The claim stood: the same form leads to its receipt.
        heal(shop)
        assert again.reload().heading == "Nothing was charged"
        again = checkout_form(shopper).submit()
    assert again.heading == "Paid: €24.00"
    assert len(shop.statement()) == 1
    heal(shop)
    with shop.app.app_context():
        no_leak(cluster, database)


@pytest.mark.parametrize("side", ["before", "after", "late"])
def test_where_the_record_fails_for_good_the_receipt_tells_later(shop: Shop, proxy: PostgresProxy, side: str) -> None:
    """Money was taken and the books are away: the shopper gets the link that will tell, and recovery records it."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    proxy.cut = Cut(RECORD, side, away=True)
    answer = form.post()
    assert (answer.status_code, answer.headers["Location"].startswith("/receipts/")) == (303, True)
    waiting = shopper.open(answer.headers["Location"])
    assert (waiting.status, waiting.heading) == (503, "We can't look up this payment right now")
    assert "Do not pay again." in waiting.text
    proxy.come_back()
    assert waiting.reload().heading in {"Your payment is being confirmed", "Paid: €24.00"}
    heal(shop)
    assert waiting.reload().heading == "Paid: €24.00"
    assert form.submit().heading == "Paid: €24.00"
    assert len(shop.statement()) == 1


def test_nothing_is_asked_for_a_claim_that_is_not_certain(shop: Shop, proxy: PostgresProxy) -> None:
    with shop.app.app_context():
        press = purchase(order())
        proxy.cut = Cut(CLAIM, "after", away=True)
        with pytest.raises(ClaimUnknown):
            protocol.pay(press, shop.gateway, 3.0)
        proxy.come_back()
        assert shop.charges() == {PROCESSING: 1}
        assert shop.gateway.lookup(arrivals.record_repeat(press.token).payment, 3.0) is None  # type: ignore[union-attr]
        heal(shop)
        assert (shop.charges(), shop.statement()) == ({CANCELED: 1}, [])
        assert not unsettled(shop)
        assert shop.value("SELECT state FROM orders") == "open"
