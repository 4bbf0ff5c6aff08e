"""Three actors, for `make soak`. Their ends are not listed."""

from uuid import uuid4

from app.charges import protocol, refunds
from app.charges.tokens import new_key
from app.gateways.base import EventSubject, GatewayRefund
from tests.charges.gateways import APPROVED, DECLINED
from tests.factories import BOWL, MUG, order, product, purchase, show_again
from tests.isolation.acts import (
    SECONDS,
    an_event,
    asks,
    cancels,
    claimed,
    due,
    ended,
    knows,
    pays,
    receives,
    records,
    recovers,
    refunds_part,
)
from tests.isolation.bank import Bank
from tests.isolation.schedules import Act, Start, pair_of


def three_tabs() -> Start:
    token = order()
    tabs = [token, show_again(token.buyer_id), show_again(token.buyer_id)]
    return Start([pays(purchase(tab)) for tab in tabs], lambda: Bank(DECLINED, APPROVED))


def three_forms() -> Start:
    token = order()
    return Start([pays(purchase(token)) for _ in range(3)])


def ring_of_baskets() -> Start:
    """Each order shares one product with each of the others."""
    third = product()
    baskets = ({MUG: 1, BOWL: 1}, {BOWL: 1, third: 1}, {third: 1, MUG: 1})
    return Start([pays(purchase(order(goods))) for goods in baskets])


def tabs_and_decline() -> Start:
    """An earlier charge is declined while two new tabs try to pay the order."""
    token = order({MUG: 1, BOWL: 1})
    charge = claimed(token)
    tabs = [pays(purchase(show_again(token.buyer_id))) for _ in range(2)]
    return Start([*tabs, records(charge, DECLINED)], knows((charge, DECLINED)))


def record_recovery_and_event() -> Start:
    charge = claimed(order())
    due()
    acts = [records(charge, APPROVED), recovers(), receives(an_event(charge))]
    return Start(acts, knows((charge, APPROVED)))


def tab_record_and_event() -> Start:
    """The losing tab locks the charge while a request records its success and a webhook brings the same news."""
    token = order()
    charge = claimed(token)
    acts = [pays(purchase(show_again(token.buyer_id))), records(charge, APPROVED), receives(an_event(charge))]
    return Start(acts, knows((charge, APPROVED)))


def refund_event_and_late_record() -> Start:
    """A late copy of the first outcome arrives while a refund is claimed here and another one was made by hand."""
    charge = claimed(order({MUG: 3}))
    paid = ended(charge, APPROVED)
    by_hand = GatewayRefund(str(uuid4()), charge.amount // 3, "re_1", ours=False)
    bank = knows((charge, APPROVED), by_hand=[by_hand])
    acts = [
        refunds_part(paid, charge.amount // 3),
        receives(an_event(charge, EventSubject.REFUND)),
        records(charge, APPROVED),
    ]
    return Start(acts, bank)


def three_of_one_fingerprint() -> Start:
    return Start([pays(purchase(order(), email="ada@example.org")) for _ in range(3)])


def refunds_and_recovery() -> Start:
    """Two thirds are being refunded by a request and by a worker, while another two thirds are claimed."""
    charge = ended(claimed(order({MUG: 3})), APPROVED)
    part = charge.amount * 2 // 3
    refund = refunds.claim(charge, part, new_key(), SECONDS)
    due()
    settle = Act(lambda bank: refunds.settle(refund, charge, bank, SECONDS))
    return Start([settle, recovers(), refunds_part(charge, part)], knows((charge, APPROVED)))


def ask_cancel_and_new_claim() -> Start:
    """The shopper gives up, and pays the reopened order in a new tab, while the first request is still asking."""
    token = order({MUG: 1, BOWL: 1})
    press = purchase(token)
    charge = protocol.claim(press, Bank(), SECONDS)
    return Start([asks(press, charge), cancels(charge), pays(purchase(show_again(token.buyer_id)))])


TRIPLES = tuple(
    pair_of(prepare)
    for prepare in (
        three_tabs, three_forms, ring_of_baskets, tabs_and_decline, record_recovery_and_event,
        tab_record_and_event, refund_event_and_late_record,
        three_of_one_fingerprint, refunds_and_recovery, ask_cancel_and_new_claim,
    )
)  # fmt: skip
