"""The pairs of actors: each runs a function of the program as a request, a worker or a webhook would."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from app.charges import protocol, recovery, refunds, rows, same_order
from app.charges.protocol import Purchase
from app.charges.rows import ChargeSnapshot
from app.charges.states import Status
from app.charges.tokens import Token, new_key
from app.database import confirmed, transaction
from app.gateways.base import Answer, EventSubject, GatewayEvent, GatewayRefund, Gateways
from app.orders import basket
from app.webhooks.receive import receive
from tests.charges.gateways import APPROVED, DECLINED
from tests.factories import BOWL, MUG, order, purchase, show_again
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
    return Act(lambda bank: receive(event, bank, SECONDS))


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


def pay_and_recovery() -> Start:
    """The recovery of a charge whose request has not asked the bank yet: it fences the key."""
    token = order()
    press = purchase(token)
    charge = protocol.claim(press, Bank(), SECONDS)
    due()

    def ask_and_record(bank: Bank) -> ChargeSnapshot:
        return protocol._ask_and_record(charge, press, bank, SECONDS)

    return Start([Act(ask_and_record, press.receipt_id), recovers()])


def two_workers() -> Start:
    charge = claimed(order())
    due()
    return Start([recovers(), recovers()], knows((charge, APPROVED)))


def cancel_and_success() -> Start:
    """The shopper gives up while the success is being recorded. The bank tells what won."""
    charge = claimed(order())

    def cancel(bank: Bank) -> bool:
        return recovery.cancel_for_shopper(charge, Gateways(bank, (bank,)), SECONDS)

    return Start([Act(cancel), records(charge, APPROVED)], knows((charge, APPROVED)))


def event_and_success() -> Start:
    charge = claimed(order())
    return Start([hears(an_event(charge)), records(charge, APPROVED)], knows((charge, APPROVED)))


def event_twice() -> Start:
    charge = claimed(order())
    event = an_event(charge)
    return Start([hears(event), hears(event)], knows((charge, APPROVED)))


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


def _pair(prepare: Callable[[], Start], *ends: str, preemptions: int = 3) -> Pair:
    return Pair(prepare.__name__, prepare, frozenset(tuple(end.split(" | ")) for end in ends), preemptions)


PAIRS = (
    _pair(same_form, preemptions=3),
    _pair(same_form_declined),
    _pair(two_tabs, preemptions=3),
    _pair(two_tabs_declined, preemptions=3),
    _pair(reverse_baskets, preemptions=3),
    _pair(reverse_baskets_declined),
    _pair(last_piece),
    _pair(same_fingerprint, preemptions=3),
    _pair(claim_and_put, preemptions=3),
    _pair(claim_and_success, preemptions=3),
    _pair(claim_and_decline, preemptions=3),
    _pair(claim_and_others_decline),
    _pair(stray_and_claim, preemptions=3),
    _pair(claim_and_prune),
    _pair(success_twice),
    _pair(decline_twice),
    _pair(success_and_decline),
    _pair(declines_of_two),
    _pair(success_and_recovery),
    _pair(pay_and_recovery),
    _pair(two_workers),
    _pair(cancel_and_success),
    _pair(event_and_success),
    _pair(event_twice),
    _pair(two_refunds),
    _pair(same_refund),
    _pair(refund_and_recovery),
    _pair(declined_refund_and_refund),
    _pair(refund_and_event),
    _pair(strays_twice),
    _pair(late_event_and_refund),
)
