"""The pairs of actors: each runs a function of the program as a request, a worker or a webhook would."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from app.charges import protocol, recovery, refunds, same_order
from app.charges.protocol import Purchase
from app.charges.rows import ChargeSnapshot
from app.charges.tokens import Token, new_key
from app.database import transaction
from app.gateways.base import Answer, EventSubject, GatewayEvent, GatewayRefund, Gateways
from app.orders import basket
from app.webhooks import receive as webhooks
from tests.charges.gateways import APPROVED, DECLINED
from tests.factories import BOWL, MUG, order, product, purchase, show_again
from tests.isolation.bank import Bank
from tests.isolation.schedules import Act, Pair, Start

SECONDS, WINDOW = 3.0, 600.0


def pays(press: Purchase) -> Act:
    """Claim, ask and record, as POST /checkout does."""
    return Act(lambda bank: protocol.pay(press, bank, SECONDS), press.receipt_id)


def records(charge: ChargeSnapshot, answer: Answer) -> Act:
    """Record an answer of the bank, as the request that asked it does."""
    return Act(lambda bank: protocol.record(charge, answer))


def recovers() -> Act:
    """Make one pass of recovery over what is due."""
    return Act(lambda bank: recovery.run(Gateways(bank, (bank,)), SECONDS, WINDOW))


def puts(buyer_id: Any, slug: str, quantity: int) -> Act:
    """Change the basket, as POST /basket does."""

    def put(bank: Bank) -> None:
        with transaction() as tx:
            basket.put(tx, buyer_id, slug, quantity, "EUR")

    return Act(put)


def refunds_(charge: ChargeSnapshot, amount: int) -> Act:
    key = new_key()
    return Act(lambda bank: refunds.refund(charge, amount, bank, SECONDS, key))


def hears(event: GatewayEvent) -> Act:
    """Receive a webhook of the bank."""
    return Act(lambda bank: webhooks.receive(event, bank, SECONDS))


def an_event(charge: ChargeSnapshot, subject: EventSubject = EventSubject.PAYMENT) -> GatewayEvent:
    return GatewayEvent(f"evt_{uuid4().hex}", "a.kind", subject, datetime.now(UTC), str(charge.key), "ref")


def claimed(token: Token, **changes: Any) -> ChargeSnapshot:
    """Return a charge that was claimed and about which the bank was asked."""
    return protocol.claim(purchase(token, **changes), Bank(), SECONDS)


def ended(charge: ChargeSnapshot, answer: Answer) -> ChargeSnapshot:
    return protocol.record(charge, answer)


def due() -> None:
    """Make every pending charge and refund due for recovery."""
    with transaction() as tx:
        for name in ("charge", "refund"):
            tx.execute(text(f"UPDATE {name} SET ask_at = now() - interval '1 s' WHERE ended_at IS NULL"))


def knows(*answers: tuple[ChargeSnapshot, Answer]) -> Callable[[], Bank]:
    """Return a maker of banks that were asked about these charges before."""
    return lambda: Bank(known={str(charge.key): answer for charge, answer in answers})


# Claims


def same_form() -> Start:
    token = order()
    return Start([pays(purchase(token)), pays(purchase(token))])


def same_form_declined() -> Start:
    token = order()
    return Start([pays(purchase(token)), pays(purchase(token))], lambda: Bank(DECLINED))


def two_tabs() -> Start:
    token = order()
    return Start([pays(purchase(token)), pays(purchase(show_again(token.buyer_id)))])


def two_tabs_declined() -> Start:
    token = order()
    acts = [pays(purchase(token)), pays(purchase(show_again(token.buyer_id)))]
    return Start(acts, lambda: Bank(DECLINED, APPROVED))


def reverse_baskets() -> Start:
    return Start([pays(purchase(order({MUG: 1, BOWL: 2}))), pays(purchase(order({BOWL: 1, MUG: 2})))])


def reverse_baskets_declined() -> Start:
    acts = [pays(purchase(order({MUG: 1, BOWL: 2}))), pays(purchase(order({BOWL: 1, MUG: 2})))]
    return Start(acts, lambda: Bank(DECLINED))


def last_piece() -> Start:
    with transaction() as tx:
        tx.execute(text(f"UPDATE product SET stock = 1, stocked = 1 WHERE slug = '{MUG}'"))
    return Start([pays(purchase(order())), pays(purchase(order()))])


def same_fingerprint() -> Start:
    return Start([pays(purchase(order(), email="ada@example.org")) for _ in range(2)])


def claim_and_put() -> Start:
    token = order()
    return Start([pays(purchase(token)), puts(token.buyer_id, BOWL, 1)])


def claim_and_success() -> Start:
    token = order()
    charge = claimed(token)
    acts = [pays(purchase(show_again(token.buyer_id))), records(charge, APPROVED)]
    return Start(acts, knows((charge, APPROVED)))


def claim_and_decline() -> Start:
    token = order({MUG: 1, BOWL: 1})
    charge = claimed(token)
    acts = [pays(purchase(show_again(token.buyer_id))), records(charge, DECLINED)]
    return Start(acts, knows((charge, DECLINED)))


def claim_and_others_decline() -> Start:
    charge = claimed(order({MUG: 1, BOWL: 1}))
    acts = [pays(purchase(order({BOWL: 1, MUG: 1}))), records(charge, DECLINED)]
    return Start(acts, knows((charge, DECLINED)))


def stray_and_claim() -> Start:
    token = order()
    first = claimed(token)
    ended(first, DECLINED)
    acts = [pays(purchase(show_again(token.buyer_id))), records(first, APPROVED)]
    return Start(acts, knows((first, APPROVED)))


def claim_and_prune() -> Start:
    """The guard of the fingerprint exists, but no entry matters any more."""
    email = "ada@example.org"
    declined = claimed(order(), email=email)
    ended(declined, DECLINED)
    return Start([pays(purchase(order(), email=email)), Act(lambda bank: same_order.prune())])


# Outcomes


def success_twice() -> Start:
    charge = claimed(order())
    return Start([records(charge, APPROVED), records(charge, APPROVED)], knows((charge, APPROVED)))


def decline_twice() -> Start:
    charge = claimed(order({MUG: 1, BOWL: 1}))
    return Start([records(charge, DECLINED), records(charge, DECLINED)], knows((charge, DECLINED)))


def success_and_decline() -> Start:
    """A bank that contradicts itself: if the decline is first, the money is a stray payment."""
    charge = claimed(order())
    return Start([records(charge, APPROVED), records(charge, DECLINED)], knows((charge, APPROVED)))


def declines_of_two() -> Start:
    first, second = claimed(order({MUG: 1, BOWL: 1})), claimed(order({BOWL: 1, MUG: 1}))
    return Start([records(first, DECLINED), records(second, DECLINED)], knows((first, DECLINED), (second, DECLINED)))


def success_and_recovery() -> Start:
    charge = claimed(order())
    due()
    return Start([records(charge, APPROVED), recovers()], knows((charge, APPROVED)))


def asks(press: Purchase, charge: ChargeSnapshot) -> Act:
    """Ask and record, as `pay` does after its claim."""
    return Act(lambda bank: protocol._ask_and_record(charge, press, bank, SECONDS), press.receipt_id)


def ask_and_recovery() -> Start:
    """A worker finds the charge before its request has asked the bank: one of them is told what the other did."""
    press = purchase(order())
    charge = protocol.claim(press, Bank(), SECONDS)
    due()
    return Start([asks(press, charge), recovers()])


def cancels(charge: ChargeSnapshot) -> Act:
    """Give up, as the shopper does on the receipt."""
    return Act(lambda bank: recovery.cancel_for_shopper(charge, Gateways(bank, (bank,)), SECONDS))


def ask_and_cancel() -> Start:
    """The shopper gives up in another tab. The bank tells both what won."""
    press = purchase(order())
    charge = protocol.claim(press, Bank(), SECONDS)
    return Start([asks(press, charge), cancels(charge)])


def ask_cancel_and_new_claim() -> Start:
    """The shopper gives up, and pays the reopened order in a new tab, while the first request is still asking."""
    token = order({MUG: 1, BOWL: 1})
    press = purchase(token)
    charge = protocol.claim(press, Bank(), SECONDS)
    return Start([asks(press, charge), cancels(charge), pays(purchase(show_again(token.buyer_id)))])


def two_workers() -> Start:
    charge = claimed(order())
    due()
    return Start([recovers(), recovers()], knows((charge, APPROVED)))


def cancel_and_success() -> Start:
    """The shopper gives up while the success is being recorded. The bank tells what won."""
    charge = claimed(order())
    return Start([cancels(charge), records(charge, APPROVED)], knows((charge, APPROVED)))


def event_and_success() -> Start:
    charge = claimed(order())
    return Start([hears(an_event(charge)), records(charge, APPROVED)], knows((charge, APPROVED)))


def event_twice() -> Start:
    charge = claimed(order())
    event = an_event(charge)
    return Start([hears(event), hears(event)], knows((charge, APPROVED)))


def two_late_events() -> Start:
    """Two webhooks of one payment, such as Stripe's charge.succeeded and payment_intent.succeeded.

    Both have read the charge before the request that asked the bank recorded its success.
    """
    charge = claimed(order())
    ended(charge, APPROVED)

    def follows(event: GatewayEvent) -> Act:
        return Act(lambda bank: webhooks._record(event, bank, charge, webhooks.Facts(APPROVED, [])))

    return Start([follows(an_event(charge)), follows(an_event(charge))], knows((charge, APPROVED)))


# Refunds


def two_refunds() -> Start:
    """Each is two thirds of the charge: one of them must be refused."""
    charge = ended(claimed(order({MUG: 3})), APPROVED)
    part = charge.amount * 2 // 3
    return Start([refunds_(charge, part), refunds_(charge, part)], knows((charge, APPROVED)))


def same_refund() -> Start:
    charge = ended(claimed(order()), APPROVED)
    one = refunds_(charge, charge.amount)
    return Start([one, one], knows((charge, APPROVED)))


def refund_and_recovery() -> Start:
    charge = ended(claimed(order()), APPROVED)
    refund = refunds.claim(charge, charge.amount, new_key(), SECONDS)
    due()
    settle = Act(lambda bank: refunds.settle(refund, charge, bank, SECONDS))
    return Start([settle, recovers()], knows((charge, APPROVED)))


def declined_refund_and_refund() -> Start:
    """A refund that the bank declines gives its promise back while another one is being claimed."""
    charge = ended(claimed(order()), APPROVED)
    refund = refunds.claim(charge, charge.amount, new_key(), SECONDS)

    def bank() -> Bank:
        made = knows((charge, APPROVED))()
        made.refund_outcomes[str(refund.key)] = DECLINED
        return made

    settle = Act(lambda bank: refunds.settle(refund, charge, bank, SECONDS))
    return Start([settle, refunds_(charge, charge.amount)], bank)


def refund_and_event() -> Start:
    """A refund here, and the webhook of another one that was made by hand at the bank; together they exceed."""
    charge = ended(claimed(order({MUG: 3})), APPROVED)
    part = charge.amount * 2 // 3
    by_hand = GatewayRefund(str(uuid4()), part, "re_1", ours=False)

    def bank() -> Bank:
        made = knows((charge, APPROVED))()
        made.by_hand.append(by_hand)
        return made

    return Start([refunds_(charge, part), hears(an_event(charge, EventSubject.REFUND))], bank)


def strays_twice() -> Start:
    charge = claimed(order())
    ended(charge, DECLINED)
    return Start([records(charge, APPROVED), records(charge, APPROVED)], knows((charge, APPROVED)))


def late_event_and_refund() -> Start:
    """Two webhooks of a pending charge: paid, and already refunded by hand."""
    charge = claimed(order())
    by_hand = GatewayRefund(str(uuid4()), charge.amount, "re_1", ours=False)

    def bank() -> Bank:
        made = knows((charge, APPROVED))()
        made.by_hand.append(by_hand)
        return made

    return Start([hears(an_event(charge)), hears(an_event(charge, EventSubject.REFUND))], bank)


def _pair(prepare: Callable[[], Start], *ends: str) -> Pair:
    return Pair(prepare.__name__, prepare, frozenset(tuple(end.split(" | ")) for end in ends))


def either(one: str, other: str) -> tuple[str, str]:
    """Return both ends of a pair whose actors are alike."""
    return f"{one} | {other}", f"{other} | {one}"


LEADS_TO_PROCESSING = either("own succeeded", "the other's processing")

PAIRS = (
    _pair(same_form, *either("own succeeded", "the other's succeeded"), *LEADS_TO_PROCESSING),
    _pair(
        same_form_declined,
        *either("own declined", "the other's declined"), *either("own declined", "the other's processing"),
    ),
    _pair(two_tabs, *either("own succeeded", "the other's succeeded"), *LEADS_TO_PROCESSING),
    # The second tab may pay the order once the first one was declined.
    _pair(
        two_tabs_declined,
        *either("own declined", "own succeeded"), *either("own declined", "the other's processing"),
    ),
    _pair(reverse_baskets, "own succeeded | own succeeded"),
    _pair(reverse_baskets_declined, "own declined | own declined"),
    _pair(last_piece, *either("own succeeded", "SoldOut")),
    _pair(same_fingerprint, *either("own succeeded", "OrderedBefore")),
    _pair(claim_and_put, "own succeeded | OrderPlaced", "OrderChanged | None"),
    _pair(claim_and_success, "the other's processing | succeeded", "the other's succeeded | succeeded"),
    _pair(claim_and_decline, "the other's processing | declined", "own succeeded | declined"),
    _pair(claim_and_others_decline, "own succeeded | declined"),
    _pair(stray_and_claim, "own succeeded | declined"),
    _pair(claim_and_prune, "own succeeded | 1", "own succeeded | 2"),
    _pair(success_twice, "succeeded | succeeded"),
    _pair(decline_twice, "declined | declined"),
    _pair(success_and_decline, "succeeded | succeeded", "declined | declined"),
    _pair(declines_of_two, "declined | declined"),
    _pair(success_and_recovery, "succeeded | 0", "succeeded | 1"),
    _pair(ask_and_recovery, "own succeeded | 0", "own succeeded | 1", "own canceled | 1"),
    _pair(ask_and_cancel, "own succeeded | True", "own canceled | True"),
    _pair(two_workers, *either("0", "1")),
    _pair(cancel_and_success, "True | succeeded"),
    _pair(event_and_success, "recorded | succeeded"),
    _pair(event_twice, "recorded | recorded"),
    _pair(two_late_events, "recorded | recorded"),
    _pair(two_refunds, *either("succeeded", "NotRefundable")),
    _pair(same_refund, "succeeded | succeeded"),
    _pair(refund_and_recovery, "succeeded | 0", "succeeded | 1"),
    _pair(declined_refund_and_refund, "declined | NotRefundable", "declined | succeeded"),
    _pair(refund_and_event, "succeeded | noted", "succeeded | Later", "NotRefundable | recorded"),
    _pair(strays_twice, "declined | declined"),
    _pair(late_event_and_refund, "recorded | recorded"),
)  # fmt: skip


# Three actors, for `make soak`


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
    acts = [records(charge, APPROVED), recovers(), hears(an_event(charge))]
    return Start(acts, knows((charge, APPROVED)))


def tab_record_and_event() -> Start:
    """The losing tab locks the charge while a request records its success and a webhook brings the same news."""
    token = order()
    charge = claimed(token)
    acts = [pays(purchase(show_again(token.buyer_id))), records(charge, APPROVED), hears(an_event(charge))]
    return Start(acts, knows((charge, APPROVED)))


def refund_event_and_late_record() -> Start:
    """A late copy of the first outcome arrives while a refund is claimed here and another one was made by hand."""
    charge = claimed(order({MUG: 3}))
    paid = ended(charge, APPROVED)
    by_hand = GatewayRefund(str(uuid4()), charge.amount // 3, "re_1", ours=False)

    def bank() -> Bank:
        made = knows((charge, APPROVED))()
        made.by_hand.append(by_hand)
        return made

    acts = [refunds_(paid, charge.amount // 3), hears(an_event(charge, EventSubject.REFUND)), records(charge, APPROVED)]
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
    return Start([settle, recovers(), refunds_(charge, part)], knows((charge, APPROVED)))


TRIPLES = tuple(
    _pair(prepare)
    for prepare in (
        three_tabs, three_forms, ring_of_baskets, tabs_and_decline, record_recovery_and_event,
        tab_record_and_event, refund_event_and_late_record,
        three_of_one_fingerprint, refunds_and_recovery, ask_cancel_and_new_claim,
    )
)  # fmt: skip

WITH_CUTS = (
    same_form, two_tabs_declined, claim_and_decline, ask_and_recovery, two_refunds, refund_and_recovery,
    event_and_success,
)  # fmt: skip
"""The pairs in which connections are cut."""

BY_NAME = {pair.name: pair for pair in (*PAIRS, *TRIPLES)}
