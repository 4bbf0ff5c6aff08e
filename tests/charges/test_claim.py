"""Claim: of many simultaneous requests one asks the gateway, and only after its claim is committed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from app.charges import protocol
from app.charges.protocol import ClaimUnknown, pay
from app.charges.states import IN_DOUBT, SUCCEEDED
from app.database import db, transaction
from app.orders import basket, stock
from tests.charges.gateways import APPROVED, DECLINED, LOST, ScriptedGateway
from tests.charges.parallel import at_once
from tests.factories import BOWL, MUG, change_product, order, presses, product, purchase, show_again
from tests.shops import Shop


def test_simultaneous_twins_ask_once(shop: Shop, app: Flask) -> None:
    gateway, token = ScriptedGateway(), order()
    charges = at_once(app, [partial(pay, press, gateway, 3) for press in presses(token, 12)])
    assert len({charge.receipt_id for charge in charges}) == 1
    assert gateway.keys == [str(token.key)], "it must be asked once, under the token's key"
    assert shop.charges() == {"succeeded": 1}
    assert shop.value("SELECT arrivals FROM charge") == 10, "arrivals are counted up to ten"


def test_simultaneous_tabs_ask_once(shop: Shop, app: Flask) -> None:
    gateway, first = ScriptedGateway(), order()
    tabs = [first, *(show_again(first.buyer_id) for _ in range(4))]
    charges = at_once(app, [partial(pay, press, gateway, 3) for tab in tabs for press in presses(tab, 3)])
    assert len({charge.receipt_id for charge in charges}) == 1
    assert len(gateway.asked) == 1
    assert shop.charges() == {"succeeded": 1}
    assert shop.stock(MUG) == 199


def test_a_late_twin_gets_the_receipt_and_asks_nothing(shop: Shop, app: Flask) -> None:
    token = order()
    first = pay(purchase(token), ScriptedGateway(), 3)
    late = ScriptedGateway()
    again = pay(purchase(token), late, 3)
    assert (again.receipt_id, again.status) == (first.receipt_id, SUCCEEDED)
    assert late.asked == []


def test_a_declined_token_is_never_tried_with_another_card(shop: Shop, app: Flask) -> None:
    token = order()
    declined = pay(purchase(token), ScriptedGateway(DECLINED), 3)
    second = ScriptedGateway(APPROVED)
    assert pay(purchase(token), second, 3).receipt_id == declined.receipt_id
    assert second.asked == []
    assert pay(purchase(show_again(token.buyer_id)), second, 3).status is SUCCEEDED, (
        "a new form can pay with another card"
    )


def test_the_claim_is_committed_before_the_gateway_is_asked(shop: Shop, app: Flask) -> None:
    """Another host reads the charge during the question, over connections of its own."""
    other, seen = shop.another(), []
    gateway = ScriptedGateway(meanwhile=lambda: seen.extend(other.rows("SELECT status, key FROM charge")))
    token = order()
    pay(purchase(token), gateway, 3)
    assert [status for status, _ in seen] == ["processing"]
    assert str(seen[0].key).replace("-", "") == token.key.hex
    other.close()


def test_no_connection_or_lock_is_held_while_the_gateway_is_asked(shop: Shop, app: Flask) -> None:
    other, held = shop.another(), list[int]()

    def look() -> None:
        held.append(db.engine.pool.checkedout())  # type: ignore[attr-defined]
        other.execute("UPDATE product SET description = 'meanwhile'")  # This would wait if the claim held a lock.

    pay(purchase(order()), ScriptedGateway(meanwhile=look), 3)
    assert held == [0]
    other.close()


def test_a_twin_is_answered_while_the_gateway_is_asked(shop: Shop, app: Flask) -> None:
    """The winner's question lasts until the twin has returned. If the twin waited for the winner, both would hang."""
    answered, asked, token = Event(), Event(), order()

    def wait() -> None:
        asked.set()
        assert answered.wait(30), "the twin did not return while the gateway was slow"

    def twin() -> object:
        assert asked.wait(30)
        charge = pay(purchase(token), ScriptedGateway(meanwhile=lambda: pytest.fail("asked twice")), 3)
        answered.set()
        return charge

    winner, loser = at_once(app, [partial(pay, purchase(token), ScriptedGateway(meanwhile=wait), 60), twin])
    assert winner.receipt_id == loser.receipt_id
    assert (winner.status, loser.status) == (SUCCEEDED, "processing")


def test_a_changed_order_is_never_charged(shop: Shop, app: Flask) -> None:
    gateway, token = ScriptedGateway(), order({MUG: 1})
    with transaction() as tx:
        basket.put(tx, token.buyer_id, BOWL, 1, "EUR")
    with pytest.raises(basket.OrderChanged):
        pay(purchase(token), gateway, 3)
    assert gateway.asked == []
    assert shop.charges() == {}


def test_a_changed_price_is_never_charged(shop: Shop, app: Flask) -> None:
    gateway, token = ScriptedGateway(), order({MUG: 2})
    change_product(MUG, price=2500)
    with pytest.raises(basket.OrderChanged):
        pay(purchase(token), gateway, 3)
    assert (gateway.asked, shop.charges(), shop.stock(MUG)) == ([], {}, 200)
    assert pay(purchase(show_again(token.buyer_id)), gateway, 3).amount == 5000


LINES = """
    SELECT count(*) FROM order_line l JOIN orders o ON o.id = l.order_id
    WHERE replace(cast(o.random_id AS varchar), '-', '') = :id
"""


def test_a_basket_that_changes_during_the_claim_is_charged_as_shown_or_not_at_all(shop: Shop, app: Flask) -> None:
    def change(buyer_id: object) -> None:
        with transaction() as tx:
            basket.put(tx, buyer_id, BOWL, 1, "EUR")  # type: ignore[arg-type]

    for _ in range(15):
        gateway, token = ScriptedGateway(), order({MUG: 1})
        paid, changed = at_once(app, [partial(pay, purchase(token), gateway, 3), partial(change, token.buyer_id)])
        lines = shop.value(LINES, id=token.order_random_id.hex)
        if isinstance(paid, basket.OrderChanged):
            assert (gateway.asked, changed, lines) == ([], None, 2)
        else:
            assert isinstance(changed, basket.OrderPlaced)
            assert (paid.amount, gateway.asked[0].amount, lines) == (2400, 2400, 1)


def test_the_last_item_is_sold_once(shop: Shop, app: Flask) -> None:
    for _ in range(10):
        last = product(stock=1)
        gateway, tokens = ScriptedGateway(), [order({last: 1}) for _ in range(4)]
        results = at_once(app, [partial(pay, purchase(token), gateway, 3) for token in tokens])
        sold_out = [result for result in results if isinstance(result, stock.SoldOut)]
        assert (len(sold_out), len(gateway.asked), shop.stock(last)) == (3, 1, 0), "the losers must not ask"


def test_orders_for_the_same_goods_never_deadlock(shop: Shop, app: Flask) -> None:
    one, other = product(stock=1000), product(stock=1000)
    tokens = [order({one: 1, other: 1} if n % 2 else {other: 1, one: 1}) for n in range(16)]
    results = at_once(app, [partial(pay, purchase(token), ScriptedGateway(), 3) for token in tokens])
    assert Counter(getattr(result, "status", result) for result in results) == {SUCCEEDED: 16}
    assert (shop.stock(one), shop.stock(other)) == (984, 984)


def test_sold_out_changes_nothing(shop: Shop, app: Flask) -> None:
    few = product(stock=3)
    token = order({MUG: 1, few: 3})
    change_product(few, stock=2)
    with pytest.raises(stock.SoldOut):
        pay(purchase(token), ScriptedGateway(), 3)
    assert (shop.stock(MUG), shop.stock(few), shop.charges()) == (200, 2, {})
    assert shop.value("SELECT state FROM orders") == "open"


def test_a_product_that_is_not_on_sale_is_not_sold(shop: Shop, app: Flask) -> None:
    gone = product()
    token = order({gone: 1})
    change_product(gone, on_sale=False)
    with pytest.raises(stock.SoldOut):
        pay(purchase(token), ScriptedGateway(), 3)


@pytest.mark.parametrize(
    "gateway", [ScriptedGateway(DECLINED), ScriptedGateway(LOST, LOST)], ids=["declined", "in doubt"]
)
def test_the_order_is_open_again_only_when_no_money_can_have_moved(
    shop: Shop, app: Flask, gateway: ScriptedGateway
) -> None:
    token = order({MUG: 2})
    charge = pay(purchase(token), gateway, 0.1)
    in_doubt = charge.status is IN_DOUBT
    assert shop.value("SELECT state FROM orders") == ("placed" if in_doubt else "open")
    assert shop.stock(MUG) == (198 if in_doubt else 200)


@contextmanager
def commits_lost(*, committed: bool, times: int) -> Iterator[None]:
    """Let the next `times` commits raise. If `committed`, they are committed first, else rolled back."""
    left = [times]
    dialect = db.engine.dialect
    do_commit = dialect.do_commit

    def commit(connection: object) -> None:
        if left[0]:
            left[0] -= 1
            if committed:
                do_commit(connection)  # type: ignore[arg-type]
            else:
                dialect.do_rollback(connection)  # type: ignore[arg-type]
            raise OperationalError("COMMIT", {}, Exception("the connection broke"))
        do_commit(connection)  # type: ignore[arg-type]

    dialect.do_commit = commit  # type: ignore[method-assign]
    try:
        yield
    finally:
        dialect.do_commit = do_commit  # type: ignore[method-assign]


@pytest.mark.parametrize("committed", [True, False])
def test_a_claim_whose_commit_was_lost_is_repeated_and_paid_once(shop: Shop, app: Flask, committed: bool) -> None:
    gateway, token = ScriptedGateway(), order()
    with commits_lost(committed=committed, times=1):
        charge = pay(purchase(token), gateway, 3)
    assert charge.status is SUCCEEDED
    assert gateway.keys == [str(token.key)]
    assert shop.charges() == {"succeeded": 1}
    assert shop.stock(MUG) == 199


@pytest.mark.parametrize("committed", [True, False])
def test_a_claim_that_stays_unknown_asks_nothing(shop: Shop, app: Flask, committed: bool) -> None:
    gateway, token = ScriptedGateway(), order()
    with commits_lost(committed=committed, times=3), pytest.raises(ClaimUnknown):
        pay(purchase(token), gateway, 3)
    assert gateway.asked == []
    assert shop.charges() == ({"processing": 1} if committed else {})


@pytest.mark.parametrize("committed", [True, False])
def test_an_outcome_whose_commit_was_lost_is_recorded_once(shop: Shop, app: Flask, committed: bool) -> None:
    token = order()
    charge = protocol.claim(purchase(token), ScriptedGateway(), 3)
    with commits_lost(committed=committed, times=1):
        assert protocol.record(charge, APPROVED).status is SUCCEEDED
    assert shop.charges() == {"succeeded": 1}
    assert shop.value("SELECT count(*) FROM ledger_entry") == 2


def test_connections_are_returned_to_the_pool_after_errors(shop: Shop, app: Flask) -> None:
    with pytest.raises(RuntimeError):
        pay(purchase(order()), ScriptedGateway(RuntimeError("a bug")), 3)
    stale = order()
    change_product(MUG, price=1)
    with pytest.raises(basket.OrderChanged):
        pay(purchase(stale), ScriptedGateway(), 3)
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
