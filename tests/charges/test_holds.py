"""Unconfirmed payments hold goods: a share per network, and not longer than HOLD if others need them."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app.charges import holds, protocol, recovery
from app.charges.rows import ChargeSnapshot
from app.charges.states import CANCELED, REQUIRES_ACTION, SUCCEEDED
from app.database import transaction
from app.gateways.base import Gateways, Outcome
from app.orders import stock
from tests.charges.gateways import APPROVED, DECLINED, LOST, NEEDS_SHOPPER
from tests.charges.parallel import at_once
from tests.factories import BOWL, order, product, purchase
from tests.isolation.bank import Bank
from tests.recovery import let_time_pass
from tests.shops import Shop

HOLD, WINDOW = 600.0, 3600.0


@pytest.fixture
def bank(app: Flask) -> Bank:
    """Return a bank at which every payment waits for its shopper, until the script says otherwise."""
    return Bank(NEEDS_SHOPPER)


def unconfirmed(slug: str, quantity: int, bank: Bank, network: str | None = None, **changes: Any) -> ChargeSnapshot:
    return protocol.pay(purchase(order({slug: quantity}), network=network, hold=HOLD, **changes), bank, 1.0)


def pays(slug: str, quantity: int, network: str | None = None) -> ChargeSnapshot:
    return protocol.pay(purchase(order_of_any(slug, quantity), network=network, hold=HOLD), Bank(APPROVED), 1.0)


def order_of_any(slug: str, quantity: int) -> Any:
    """Return a form for goods that need not be in stock, as one that was shown earlier."""
    with transaction() as tx:
        tx.execute(text("UPDATE product SET stock = stock + 1000, stocked = stocked + 1000"))
    form = order({slug: quantity})
    with transaction() as tx:
        tx.execute(text("UPDATE product SET stock = stock - 1000, stocked = stocked - 1000"))
    return form


def recover(bank: Bank) -> int:
    return recovery.run_charges(Gateways(bank, (bank,)), 1.0, WINDOW)


def statuses(shop: Shop) -> list[tuple[str, str | None]]:
    return [tuple(row) for row in shop.rows("SELECT status, reason FROM charge ORDER BY id")]


def test_goods_come_back_after_hold_if_others_need_them(shop: Shop, bank: Bank) -> None:
    """Marked while it was young: one pass after HOLD releases it, however rarely recovery asks."""
    slug = product(stock=3)
    first = unconfirmed(slug, 3, bank)
    with pytest.raises(stock.SoldOut):
        pays(slug, 1)
    let_time_pass(shop, 30)
    assert recover(bank) == 1, "it is asked about, not ended"
    assert recover(bank) == 0
    assert statuses(shop) == [(REQUIRES_ACTION, None)]
    let_time_pass(shop, HOLD - 30)
    assert recover(bank) == 1
    assert statuses(shop) == [(CANCELED, "released")]
    assert bank.outcomes[str(first.key)].outcome is Outcome.CANCELED, "fenced at the gateway"
    assert shop.stock(slug) == 3
    assert pays(slug, 3).status is SUCCEEDED


def test_goods_come_back_on_time_although_recovery_asks_rarely(shop: Shop, bank: Bank) -> None:
    """The next question after ever longer pauses would come minutes after HOLD."""
    slug = product(stock=1)
    unconfirmed(slug, 1, bank)
    with pytest.raises(stock.SoldOut):
        pays(slug, 1)
    shop.execute("UPDATE charge SET times_asked = 20")
    let_time_pass(shop, HOLD - 60)
    assert recover(bank) == 1
    let_time_pass(shop, 60)
    assert recover(bank) == 1
    assert statuses(shop) == [(CANCELED, "released")]


def test_an_old_payment_is_due_at_once_when_it_is_needed(shop: Shop, bank: Bank) -> None:
    slug = product(stock=2)
    unconfirmed(slug, 2, bank)
    let_time_pass(shop, HOLD)
    assert recover(bank) == 1
    assert statuses(shop) == [(REQUIRES_ACTION, None)], "nobody needs the goods"
    with pytest.raises(stock.SoldOut):
        pays(slug, 1)
    assert recover(bank) == 1
    assert statuses(shop) == [(CANCELED, "released")]


@pytest.mark.parametrize("held", ["another product", "enough is left", "no limit"])
def test_a_payment_that_nobody_waits_for_is_kept(shop: Shop, bank: Bank, held: str) -> None:
    slug = product(stock=4)
    if held == "no limit":  # as an earlier version begins it
        protocol.pay(purchase(order({slug: 4})), bank, 1.0)
    else:
        unconfirmed(slug, 2 if held == "enough is left" else 4, bank)
    if held == "enough is left":
        assert pays(slug, 1).status is SUCCEEDED
    else:
        with pytest.raises(stock.SoldOut):
            pays(slug if held == "no limit" else product(stock=0), 1)
    let_time_pass(shop, HOLD + 60)
    recover(bank)
    assert statuses(shop)[0] == (REQUIRES_ACTION, None)


def test_a_payment_that_was_confirmed_in_time_keeps_its_goods(shop: Shop, bank: Bank) -> None:
    """The gateway's answer counts: the shopper confirmed before the key was fenced."""
    slug = product(stock=1)
    charge = unconfirmed(slug, 1, bank)
    with pytest.raises(stock.SoldOut):
        pays(slug, 1)
    bank.outcomes[str(charge.key)] = APPROVED
    let_time_pass(shop, HOLD)
    assert recover(bank) == 1
    assert statuses(shop) == [(SUCCEEDED, None)]
    assert shop.stock(slug) == 0


def test_an_outcome_that_is_not_known_is_never_released(shop: Shop, app: Flask) -> None:
    slug = product(stock=1)
    bank = Bank(LOST)
    protocol.pay(purchase(order({slug: 1}), hold=HOLD), bank, 0.1)
    with pytest.raises(stock.SoldOut):
        pays(slug, 1)
    assert shop.rows("SELECT status, wanted_at FROM charge") == [("in_doubt", None)]


def test_a_network_holds_half_of_what_is_free(shop: Shop, bank: Bank) -> None:
    slug = product(stock=100)
    unconfirmed(slug, 40, bank, "attacker")
    unconfirmed(slug, 10, bank, "attacker")
    with pytest.raises(holds.NetworkFull) as refused:
        unconfirmed(slug, 1, bank, "attacker")
    assert (refused.value.left, refused.value.alone) == (0, False)
    assert shop.stock(slug) == 50
    assert shop.charges() == {REQUIRES_ACTION: 2}, "the refused one left nothing"
    assert pays(slug, 25, "another").status is SUCCEEDED
    assert unconfirmed(BOWL, 5, bank, "attacker").status is REQUIRES_ACTION, "another product"


def test_one_order_is_too_large_if_it_takes_more_than_half(shop: Shop, bank: Bank) -> None:
    """Otherwise one order of a network would empty the shelf. The shopper pays in two orders instead."""
    slug = product(stock=20)
    with pytest.raises(holds.NetworkFull) as refused:
        pays(slug, 11, "shopper")
    assert (refused.value.left, refused.value.alone) == (10, True)
    for quantity in (refused.value.left, 5, 3, 2):
        assert pays(slug, quantity, "shopper").status is SUCCEEDED
    assert shop.stock(slug) == 0


def test_each_further_network_gets_less(shop: Shop, bank: Bank) -> None:
    slug = product(stock=100)
    for network in range(4):
        with pytest.raises(holds.NetworkFull):
            for _ in range(100):
                unconfirmed(slug, 1, bank, f"attacker {network}")
    assert shop.stock(slug) >= 6


def test_a_network_can_always_hold_a_few_pieces(shop: Shop, bank: Bank) -> None:
    few = product(stock=holds.LEAST)
    for _ in range(holds.LEAST):
        unconfirmed(few, 1, bank, "office")


def test_what_has_ended_does_not_count(shop: Shop, bank: Bank) -> None:
    slug = product(stock=8)
    for answer in (APPROVED, DECLINED, APPROVED):
        protocol.pay(purchase(order({slug: 2}), network="office", hold=HOLD), Bank(answer), 1.0)
    assert unconfirmed(slug, 1, bank, "office").status is REQUIRES_ACTION
    assert shop.rows("SELECT network FROM charge WHERE ended_at IS NOT NULL") == [(None,)] * 3, "erased"


def test_a_full_network_gets_its_goods_back_after_hold(shop: Shop, bank: Bank) -> None:
    slug = product(stock=100)
    unconfirmed(slug, 50, bank, "office")
    unconfirmed(slug, 5, bank, "another")
    with pytest.raises(holds.NetworkFull):
        pays(slug, 1, "office")
    let_time_pass(shop, HOLD)
    assert recover(bank) == 2
    assert statuses(shop) == [(CANCELED, "released"), (REQUIRES_ACTION, None)], "only the network's own"
    assert pays(slug, 1, "office").status is SUCCEEDED


def test_simultaneous_claims_of_one_network_do_not_exceed_its_share(shop: Shop, app: Flask, bank: Bank) -> None:
    slug = product(stock=40)
    forms = [purchase(order({slug: 4}), network="attacker", hold=HOLD) for _ in range(8)]

    told = at_once(app, [partial(protocol.pay, form, bank, 3.0) for form in forms])
    assert Counter(type(each) for each in told) == {ChargeSnapshot: 5, holds.NetworkFull: 3}
    assert shop.stock(slug) == 20
