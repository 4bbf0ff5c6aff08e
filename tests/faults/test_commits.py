"""A COMMIT whose answer is lost is run again, and no payment is lost or made twice, whatever the first one did."""

import time
from collections.abc import Callable

import pytest

from app.charges import arrivals, protocol
from app.charges.protocol import ClaimUnknown
from app.charges.states import CANCELED, PROCESSING, SUCCEEDED
from app.database import db
from tests.factories import checkout_form, order, purchase, ready_to_pay
from tests.faults.commits import CLAIM, RECORD, Cut, PostgresProxy, sides
from tests.faults.rounds import TIMES, report
from tests.postgres import Cluster
from tests.recovery import count_unsettled, recover_and_audit
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(180 + 60 * TIMES)]

NAMES = {CLAIM: "claim", RECORD: "record"}
ROUNDS = 5 * TIMES
IN_TRANSACTION = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state LIKE 'idle in transaction%%'"


@pytest.fixture
def shop(open_shop: Callable[..., Shop], proxy: PostgresProxy, database: str) -> Shop:
    return open_shop(proxy.url(database))


def assert_no_transaction_is_open(cluster: Cluster, database: str) -> None:
    """Wait until no transaction is open, in this process's pool and in the database."""
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    end = time.monotonic() + 20
    while cluster.execute(IN_TRANSACTION, database) != [(0,)]:
        assert time.monotonic() < end, "a transaction is still open"
        time.sleep(0.05)


@pytest.mark.parametrize(("statement", "side"), sides(), ids=lambda each: NAMES.get(each, each))
def test_a_lost_commit_charges_once(
    shop: Shop, proxy: PostgresProxy, cluster: Cluster, database: str, statement: bytes, side: str
) -> None:
    """The second claim uses the same receipt id, and the second record finds what was written: both end as paid."""
    with shop.app.app_context():
        for _ in range(ROUNDS):
            pressed = purchase(order())
            proxy.cut = Cut(statement, side)
            charge = protocol.pay(pressed, shop.gateway, 3.0)
            assert proxy.cut is None
            assert (charge.receipt_id, charge.status) == (pressed.receipt_id, SUCCEEDED)
            again = protocol.pay(purchase(pressed.token), shop.gateway, 3.0)
            assert (again.receipt_id, again.status) == (pressed.receipt_id, SUCCEEDED)
        assert (proxy.cuts, shop.charges(), len(shop.statement())) == (ROUNDS, {SUCCEEDED: ROUNDS}, ROUNDS)
        recover_and_audit(shop)
        assert_no_transaction_is_open(cluster, database)
    report(f"COMMITs cut, {NAMES[statement]}, {side}", cuts=proxy.cuts)


@pytest.mark.parametrize("side", ["before", "after", "late"])
def test_if_the_second_claim_fails_too_the_page_asks_to_wait(
    shop: Shop, proxy: PostgresProxy, cluster: Cluster, database: str, side: str
) -> None:
    """It is not known whether the claim exists, so the bank is not asked. If it exists, it ends without money."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    proxy.cut = Cut(CLAIM, side, offline=True)
    page = form.submit()
    assert (page.status, page.heading) == (503, "Please wait before you pay again")
    assert "The bank was not asked, so this try took no money." in page.text
    assert shop.statement() == []
    assert form.submit().status == 503
    proxy.go_online()

    again = form.submit()
    assert again.statuses == [303, 200]
    if again.heading == "Your payment is being confirmed":  # The claim exists, so its form leads to its receipt.
        recover_and_audit(shop)
        assert again.reload().heading == "Nothing was charged"
        again = checkout_form(shopper).submit()
    assert again.heading == "Paid: €24.00"
    assert len(shop.statement()) == 1
    recover_and_audit(shop)
    with shop.app.app_context():
        assert_no_transaction_is_open(cluster, database)


@pytest.mark.parametrize("side", ["before", "after", "late"])
def test_if_the_record_fails_permanently_recovery_records_the_payment(
    shop: Shop, proxy: PostgresProxy, side: str
) -> None:
    """Money was taken and the database is offline. The shopper is redirected to the receipt, which shows it later."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    proxy.cut = Cut(RECORD, side, offline=True)
    response = form.post()
    assert (response.status_code, response.headers["Location"].startswith("/receipts/")) == (303, True)
    receipt = shopper.open(response.headers["Location"])
    assert (receipt.status, receipt.heading) == (503, "We can't look up this payment right now")
    assert "Do not pay again." in receipt.text
    proxy.go_online()
    assert receipt.reload().heading in {"Your payment is being confirmed", "Paid: €24.00"}
    recover_and_audit(shop)
    assert receipt.reload().heading == "Paid: €24.00"
    assert form.submit().heading == "Paid: €24.00"
    assert len(shop.statement()) == 1


def test_the_bank_is_not_asked_for_a_claim_that_may_not_exist(shop: Shop, proxy: PostgresProxy) -> None:
    with shop.app.app_context():
        pressed = purchase(order())
        proxy.cut = Cut(CLAIM, "after", offline=True)
        with pytest.raises(ClaimUnknown):
            protocol.pay(pressed, shop.gateway, 3.0)
        proxy.go_online()
        assert shop.charges() == {PROCESSING: 1}
        assert shop.gateway.lookup(arrivals.record_repeat(pressed.token).payment, 3.0) is None  # type: ignore[union-attr]
        recover_and_audit(shop)
        assert (shop.charges(), shop.statement()) == ({CANCELED: 1}, [])
        assert not count_unsettled(shop)
        assert shop.value("SELECT state FROM orders") == "open"
