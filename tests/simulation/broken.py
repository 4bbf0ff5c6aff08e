"""Broken functions and statements that replace the program's own. `mutants` says what each one breaks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import bindparam, func, select, text, update

from app.charges import outcomes, protocol, recovery, rows, same_order
from app.charges.outcomes import Recorded
from app.charges.protocol import Purchase
from app.charges.refund_rows import RefundSnapshot
from app.charges.rows import ChargeSnapshot
from app.charges.states import (
    IN_DOUBT,
    PROCESSING,
    REQUIRES_ACTION,
    SUCCEEDED,
    TRANSITIONS,
    WITHOUT_MONEY,
    Status,
)
from app.charges.tokens import Token
from app.database import Unreachable, from_now, reading, transaction
from app.gateways.base import Answer, NotSent, Outcome, Payment, RefundRequest, Unknown
from app.orders import basket, stock
from lab.stage.steps import PROGRAM_MODULES

PROGRAM_MODULES.append(__name__)


def without(*words: str) -> Callable[[str], str]:
    """Return a change of the schema that removes the statements, or their parts, that contain one of these texts."""

    def change(sql: str) -> str:
        for word in words:
            if word in sql and not sql.startswith("CREATE TABLE"):
                return ""
            sql = sql.replace(word, "")
        return sql

    return change


NO_TRIGGERS = "CREATE TRIGGER charge_refuse"


# Claim


def ask_then_claim(purchase: Purchase, gateway: Any, seconds: float) -> ChargeSnapshot:
    token = purchase.token
    answer = protocol.ask(gateway, Payment(str(token.key), token.amount, "EUR"), purchase.card, deadline(seconds))
    charge = protocol.claim(purchase, gateway, seconds)
    return charge if charge.receipt_id != purchase.receipt_id else protocol.record(charge, answer)


def deadline(seconds: float) -> Any:
    return protocol.Deadline(seconds)


def the_loser_asks_too(purchase: Purchase, gateway: Any, seconds: float) -> ChargeSnapshot:
    charge = protocol.claim(purchase, gateway, seconds)
    if charge.status is not PROCESSING:
        return charge
    return protocol._ask_and_record(charge, purchase, gateway, deadline(seconds))


real_pay, real_claim, real_ask = protocol.pay, protocol.claim, protocol.ask


def again_until_it_wins(purchase: Purchase, gateway: Any, seconds: float) -> ChargeSnapshot:
    charge = real_pay(purchase, gateway, seconds)
    if charge.receipt_id == purchase.receipt_id or charge.status not in WITHOUT_MONEY:
        return charge
    other = replace(purchase.token, key=uuid5(purchase.token.key, "again"))
    return real_pay(replace(purchase, token=other), gateway, seconds)


def releases_in_the_books_only(token: Token, network: str | None = None) -> None:
    with transaction() as tx:
        waiting = [
            rows.snapshot(row)
            for row in tx.execute(select(*rows.COLUMNS).where(rows.charges.c.status == REQUIRES_ACTION))
        ]
        for charge in waiting:
            protocol.record_within(tx, charge, Answer(Outcome.CANCELED, reason="released"))


def no_short_cut(_token: object) -> None:
    return None


def unknown_claim_counts_as_committed(purchase: Purchase, gateway: Any, seconds: float) -> ChargeSnapshot:
    try:
        charge = None
        while charge is None:
            with transaction() as tx:
                charge = protocol._claim_or_find(tx, purchase, gateway, seconds)
        return charge
    except Unreachable:
        token = purchase.token
        return ChargeSnapshot(
            id=0, key=token.key, receipt_id=purchase.receipt_id, order_id=0, buyer_id=token.buyer_id, status=PROCESSING,
            amount=token.amount, currency="EUR", gateway=gateway.name, account=gateway.account,
            gateway_reference=None, gateway_request=None, action_url=None, receipt_url=purchase.receipt_url,
            arrivals=1, other_arrivals=0,
        )  # fmt: skip


def asks_though_recovery_was_there(purchase: Purchase, gateway: Any, seconds: float) -> ChargeSnapshot:
    charge = protocol.claim(purchase, gateway, seconds)
    if charge.receipt_id != purchase.receipt_id:
        return charge
    return protocol._ask_and_record(charge, purchase, gateway, deadline(seconds))


def forgets_old_tokens(purchase: Purchase, gateway: Any, seconds: float) -> ChargeSnapshot:
    with transaction() as tx:
        old = "UPDATE charge SET key = substr(key, 2) || 'f' WHERE created_at < strftime('', 'now', '-86400 s')"
        tx.execute(text(old))
    return real_claim(purchase, gateway, seconds)


def asks_within_the_transaction(purchase: Purchase, gateway: Any, seconds: float) -> ChargeSnapshot:
    with transaction() as tx:
        charge = protocol._claim_or_find(tx, purchase, gateway, seconds)
        assert charge is not None
        if charge.receipt_id != purchase.receipt_id:
            return charge
        answer = protocol.ask(gateway, charge.payment, purchase.card, deadline(seconds))
        return protocol.record_within(tx, charge, answer).charge


def selects_before_it_claims(purchase: Purchase, gateway: Any, seconds: float) -> ChargeSnapshot:
    with reading() as tx:
        paid = tx.execute(text("SELECT 1 FROM charge WHERE status NOT IN ('declined', 'canceled')")).first()
    if paid:
        raise same_order.OrderedBefore(None, 0, purchase.token.buyer_id)  # type: ignore[arg-type]
    return real_pay(purchase, gateway, seconds)


# Ask


def refused_is_always_nothing_sent(gateway: Any, payment: Payment, card: Any, deadline: Any) -> Answer:
    while True:
        try:
            return gateway.charge(payment, card, deadline.left())
        except NotSent:
            return Answer(Outcome.CANCELED, reason="not_sent", this_request_only=True)
        except Unknown as doubt:
            if not deadline.pause(0.2):
                raise doubt from None


def no_answer_is_declined(gateway: Any, payment: Payment, card: Any, deadline: Any) -> Answer:
    try:
        return real_ask(gateway, payment, card, deadline)
    except Unknown:
        return Answer(Outcome.DECLINED, reason="time-out")


def another_key(gateway: Any, payment: Payment, card: Any, deadline: Any) -> Answer:
    return real_ask(gateway, replace(payment, key=str(uuid5(UUID(payment.key), "other"))), card, deadline)


def new_key_on_retry(gateway: Any, payment: Payment, card: Any, deadline: Any) -> Answer:
    try:
        return gateway.charge(payment, card, deadline.left())
    except Unknown:
        return another_key(gateway, payment, card, deadline)


# Record


def records_onto_anything(connection: Any, charge: ChargeSnapshot, answer: Answer) -> Recorded:
    to = Status(answer.outcome)
    while not rows.move(connection, charge, to, answer):
        charge = rows.read_again(connection, charge)
        if to not in TRANSITIONS[charge.status]:
            return outcomes.ended_before(connection, charge, to)
    return outcomes.follow(connection, charge._replace(status=to))


def follows_in_any_case(connection: Any, charge: ChargeSnapshot, answer: Answer) -> Recorded:
    to = Status(answer.outcome)
    rows.move(connection, charge, to, answer)
    if to in WITHOUT_MONEY:
        basket.reopen(connection, charge.id, charge.order_id)
    elif to is SUCCEEDED:
        outcomes.follow(connection, charge._replace(status=to))
    return Recorded(charge._replace(status=to))


def doubt_frees_the_order(charge: ChargeSnapshot, reason: str) -> ChargeSnapshot:
    with transaction() as tx:
        rows.move(tx, charge, IN_DOUBT, note=reason)
        basket.reopen(tx, charge.id, charge.order_id)
    return charge._replace(status=IN_DOUBT)


def reopens_without_stock(connection: Any, charge_id: int, order_id: int) -> None:
    connection.execute(basket.REOPEN, {"order_id": order_id})


def reserves_nothing(connection: Any, charge_id: int, order_id: int) -> list[stock.Goods]:
    kept = connection.execute(stock.KEEP, {"charge_id": charge_id, "order_id": order_id})
    return [stock.Goods(*line) for line in kept]


real_follow = outcomes.follow


def reserves_when_paid(connection: Any, charge: ChargeSnapshot) -> Recorded:
    if charge.status is SUCCEEDED:
        for product_id, quantity in connection.execute(stock.HELD, {"charge_id": charge.id}).all():
            if connection.execute(stock.RESERVE, {"this_product": product_id, "quantity": quantity}).rowcount != 1:
                raise stock.SoldOut
    return real_follow(connection, charge)


def nothing(*_: Any, **__: Any) -> None:
    return None


# Recovery and refunds


def cancels_in_the_books_only(charge: ChargeSnapshot, gateway: Any, seconds: float, reason: str) -> Answer:
    return Answer(Outcome.CANCELED, reason=reason)


def no_answer_is_canceled(due: Any, gateway: Any, seconds: float) -> Answer:
    try:
        return real_find_out(due, gateway, seconds)
    except (NotSent, Unknown):
        return Answer(Outcome.CANCELED, reason="no answer")


real_find_out = recovery.find_out


def ignores_late_money(connection: Any, charge: ChargeSnapshot, to: Status) -> Recorded:
    return Recorded(charge)


def refunds_under_new_keys(gateway: Any, request: RefundRequest, refund: RefundSnapshot, seconds: float) -> Answer:
    key = request.key if refund.times_asked == 0 else str(uuid5(UUID(request.key), "again"))
    return gateway.refund(replace(request, key=key), seconds)


ANY_STATE = update(rows.charges).where(
    rows.charges.c.id == bindparam("charge_id"), rows.charges.c.key == bindparam("seen_key"), bindparam("seen") != ""
)
CAS_DROPPED = ANY_STATE.values(dict(rows.COMPARE_AND_SET._values))
PROMISE_UNCHECKED = (
    update(rows.charges)
    .where(rows.charges.c.id == bindparam("charge_id"))
    .values(refunded=rows.charges.c.refunded + bindparam("more"))
)
NEWEST_ENTRY = select(func.max(same_order.entries.c.charge_id)).where(
    same_order.entries.c.fingerprint == bindparam("fingerprint")
)
ONLY_THE_NEWEST = same_order.RECENT.where(same_order.entries.c.charge_id == NEWEST_ENTRY.scalar_subquery())
NO_LEASE = recovery.LEASE_CHARGE.values(ask_at=from_now(bindparam("lease") * 0))
