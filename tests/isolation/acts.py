"""What actors do: each runs a function of the program as a request, a worker or a webhook does."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from app.charges import protocol, recovery, refunds
from app.charges.present import Facts
from app.charges.protocol import Purchase
from app.charges.rows import ChargeSnapshot
from app.charges.tokens import Token, new_key
from app.database import transaction
from app.gateways.base import Answer, EventSubject, GatewayEvent, GatewayRefund, Gateways
from app.orders import basket
from app.webhooks import receive as webhooks
from tests.charges.gateways import APPROVED, DECLINED
from tests.factories import purchase
from tests.isolation.bank import Bank
from tests.isolation.schedules import Act

SECONDS, WINDOW = 3.0, 600.0


def pays(press: Purchase) -> Act:
    """Claim, ask and record, as POST /checkout does."""
    return Act(lambda bank: protocol.pay(press, bank, SECONDS), press.receipt_id)


def claims(press: Purchase) -> Act:
    """Claim only, as a request that dies before it asks."""
    return Act(lambda bank: protocol.claim(press, bank, SECONDS), press.receipt_id)


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


def refunds_part(charge: ChargeSnapshot, amount: int) -> Act:
    """Refund this amount, in minor units."""
    key = new_key()
    return Act(lambda bank: refunds.refund(charge, amount, bank, SECONDS, key))


def receives(event: GatewayEvent) -> Act:
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


def asks(press: Purchase, charge: ChargeSnapshot) -> Act:
    """Ask and record, as `pay` does after its claim."""
    return Act(lambda bank: protocol._ask_and_record(charge, press, bank, SECONDS), press.receipt_id)


def cancels(charge: ChargeSnapshot) -> Act:
    """Give up, as the shopper does on the receipt."""
    return Act(lambda bank: recovery.cancel_for_shopper(charge, Gateways(bank, (bank,)), SECONDS))


def records_event(charge: ChargeSnapshot) -> Act:
    """Record a webhook, as `receive` does after it has read the charge and asked the bank."""
    event = an_event(charge)
    return Act(lambda bank: webhooks._record(event, bank, charge, Facts(APPROVED, [], [])))


def knows(
    *answers: tuple[ChargeSnapshot, Answer], by_hand: Sequence[GatewayRefund] = (), refuses: Sequence[UUID] = ()
) -> Callable[[], Bank]:
    """Return a maker of banks that were asked about these charges before.

    `by_hand` are refunds that somebody made at the bank, `refuses` the keys of refunds that it declines.
    """

    def make() -> Bank:
        bank = Bank(known={str(charge.key): answer for charge, answer in answers})
        bank.by_hand.extend(by_hand)
        bank.refund_outcomes.update({str(key): DECLINED for key in refuses})
        return bank

    return make
