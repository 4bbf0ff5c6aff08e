"""Claim, ask, record: the three steps that charge an order at most once.

    claim    one transaction: insert the charge under the token's key, freeze the order, reserve its stock; commit
    ask      no transaction is open and no connection is held: ask the gateway for the money, under the same key
    record   one transaction: write the outcome, unless another process has written a final one; commit

The guarantee rests on the gateway, which takes money at most once per key, and on the database:

* Two unique indexes on `charge`. `uq_charge_key` allows one charge per key, permanently, so all copies of one form
  are one charge. `uq_charge_one_live_per_order` allows one live charge per order (pending or succeeded), so two tabs
  with two tokens can't both charge the order.
* `INSERT … ON CONFLICT DO NOTHING` decides between simultaneous claims. One request inserts the row. Every other one
  waits until that transaction has ended. If it committed, they insert nothing and read the winner's row; if it rolled
  back, one of them inserts. Of these requests, only the one that inserted the row asks the gateway.
* An exception inside a transaction undoes all of it. If the order has changed or its goods are sold out, no claim
  remains.
* A COMMIT whose answer is lost may have happened or not, and may even still happen, so a read can't tell. Running the
  same INSERT again can: it waits for the first transaction, then conflicts with the committed row or inserts the row
  itself. `receipt_id` is new for every request, so the row tells whose claim it is.
* With a synchronous standby, a row can be visible before the standby has it. So a request that lost locks the row that
  it reads: a lock counts as a write, and the COMMIT of a write waits for the standby. `confirmed` returns only what a
  failover can't lose.

If this process dies, the committed claim remains. Recovery finds it and looks up the key at the gateway. If the gateway
does not know the key, recovery fences it there, so that a late request can't take money either, and the order is free.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from app import measures
from app.charges import arrivals, holds, outcomes, rows, same_order
from app.charges.outcomes import Recorded
from app.charges.rows import ChargeSnapshot
from app.charges.states import IN_DOUBT, PROCESSING, TRANSITIONS, Status
from app.charges.tokens import Token
from app.database import RolledBack, Unreachable, confirmed, deadline, transaction
from app.gateways.base import Answer, Card, Deadline, Gateway, NotSent, Outcome, Payment, Unknown
from app.orders import basket, stock

CLAIM_TRIES = 5
"""Tries of one claim. Each further try means that a charge which it lost to ended without money in the meantime."""

CLAIM_SECONDS = 8.0
"""Seconds that a claim may take, all its waiting for locks included. After that, the shopper has probably left."""

ASK_PAUSE = 0.2
"""Seconds between two questions to the gateway under one key, within one request."""

log = structlog.get_logger()


class Busy(Exception):
    """This request could not claim in time. It left no claim and charged nothing; the form stays valid."""


class ClaimUnknown(Exception):
    """The database went away: the claim may or may not exist. This request did not ask the gateway and will not."""


@dataclass(frozen=True)
class Purchase:
    """One press of the Pay button. `receipt_id` is new for every request and identifies the owner of the claim."""

    token: Token
    receipt_id: str
    email: str
    name: str
    card: Card | None
    last4: str | None
    order_again: bool
    receipt_url: str
    gateway_request: Mapping[str, Any] | None = None
    """The exact request, if the gateway needs it stored so that it can be repeated."""
    request_id: str | None = None
    """The id of the HTTP request in the logs."""
    network: str | None = None
    """A pseudonym of the shopper's network, or None if it is not known. See `holds`."""
    hold: float | None = None
    """Seconds for which the goods are held while the payment is unconfirmed and others need them; None: no limit."""


def pay(purchase: Purchase, gateway: Gateway, seconds: float) -> ChargeSnapshot:
    """Claim, ask and record. Return the charge whose receipt the shopper is redirected to.

    `seconds` is the time for all questions to the gateway. Once the claim is known to be committed, this function
    returns its charge even if the gateway or the database fails. If it raises basket.OrderChanged,
    basket.OrderUnknown, stock.SoldOut, holds.NetworkFull, same_order.OrderedBefore, Busy or ClaimUnknown, it did not
    ask the gateway.
    Raises rows.RowLost if the database lost the claim while the gateway was asked: money may have been taken.
    """
    charge = claim(purchase, gateway, seconds)
    if charge.receipt_id != purchase.receipt_id:
        arrivals.count(purchase.token, charge)
        return charge
    if charge.status is not PROCESSING:
        return charge  # The first COMMIT had worked, and recovery finished the charge before we knew.
    try:
        return _ask_and_record(charge, purchase, gateway, seconds)
    except rows.RowLost:
        log.error(
            "charge_lost", key=str(charge.key), receipt=charge.receipt_id,
            amount=charge.amount, currency=charge.currency,
        )  # fmt: skip
        raise
    except Unreachable:
        log.error("charge_record_failed", receipt=charge.receipt_id)
        return charge


def _ask_and_record(charge: ChargeSnapshot, purchase: Purchase, gateway: Gateway, seconds: float) -> ChargeSnapshot:
    payment = replace(charge.payment, order_random_id=str(purchase.token.order_random_id))
    try:
        answer = ask(gateway, payment, purchase.card, Deadline(seconds))
    except Unknown as doubt:
        return record_doubt(charge, doubt.reason)
    if answer.message or answer.request_id:
        log.error(
            "charge_refused", receipt=charge.receipt_id, reason=answer.reason,
            gateway_message=answer.message, gateway_request_id=answer.request_id,
        )  # fmt: skip
    return record(charge, answer)


@measures.timed(measures.CLAIM_SECONDS)
def claim(purchase: Purchase, gateway: Gateway, seconds: float) -> ChargeSnapshot:
    """Return the charge with this token's key, or the live charge of its order. It is ours if it has our receipt id.

    Guarantee: one charge per token, ever, and one live charge per order. The charge that is returned is committed:
    `confirmed` runs a lost COMMIT again. Raises what `pay` raises.
    """
    try:
        with deadline(CLAIM_SECONDS):
            for _ in range(CLAIM_TRIES):
                if charge := confirmed(lambda tx: _claim_or_find(tx, purchase, gateway, seconds)):
                    return charge
    except RolledBack:
        raise Busy from None
    except Unreachable:
        raise ClaimUnknown from None
    except stock.SoldOut:
        holds.want(purchase.token)
        raise
    except holds.NetworkFull:
        holds.want(purchase.token, purchase.network)
        raise
    raise Busy


def _claim_or_find(
    connection: Connection, purchase: Purchase, gateway: Gateway, seconds: float
) -> ChargeSnapshot | None:
    """The INSERT comes first, because it decides. Only the winner then freezes the order and reserves its stock.

    `rows.insert` inserts nothing if there is a conflict, or if the order does not exist or is not this buyer's.
    Return None if the charge that we lost to has ended without money since the INSERT.
    """
    token = purchase.token
    charge = rows.insert(
        connection, unattended=seconds + rows.RECOVERY_MARGIN,
        key=token.key, receipt_id=purchase.receipt_id, status=PROCESSING,
        order_random_id=token.order_random_id, buyer_id=token.buyer_id,
        amount=token.amount, currency=token.currency,
        email=purchase.email, name=purchase.name, last4=purchase.last4, receipt_url=purchase.receipt_url,
        gateway=gateway.name, account=gateway.account, gateway_request=purchase.gateway_request,
        request_id=purchase.request_id,
        network=purchase.network, hold=purchase.hold,
    )  # fmt: skip
    if charge is None:
        rival = rows.find(connection, token, lock=True)
        if rival is None and not _has_order(connection, token):
            raise basket.OrderUnknown
        return rival
    goods = basket.freeze(connection, charge.id, charge.order_id, token.version, token.amount)
    holds.check(connection, charge.id, purchase.network)
    fingerprint = same_order.fingerprint(goods, token.currency, purchase.email)
    same_order.guard(connection, charge.id, fingerprint, again=purchase.order_again)
    return charge


def _has_order(connection: Connection, token: Token) -> bool:
    """Return whether the order exists and is this buyer's. The forms of an early version name no order."""
    return token.order_random_id is not None and basket.buyer_of(connection, token.order_random_id) == token.buyer_id


def ask(gateway: Gateway, payment: Payment, card: Card | None, deadline: Deadline) -> Answer:
    """Return a definite answer within the deadline, or raise Unknown.

    Guarantee: silence is never taken for "declined". If an answer was lost, the same key is asked again. If the first
    try could not be sent or was refused, nothing was taken; after an earlier try, that proves nothing.
    """
    unanswered = False
    while True:
        try:
            answer = gateway.charge(payment, card, deadline.left())
            if not (answer.this_request_only and unanswered):
                return answer
            doubt = Unknown("the gateway refused the request, but an earlier one got no answer", again=False)
        except NotSent:
            if not unanswered:
                return Answer(Outcome.CANCELED, reason="not_sent", this_request_only=True)
            doubt = Unknown("the gateway could not be reached again")
        except Unknown as unknown:
            unanswered, doubt = True, unknown
        if not doubt.again or not deadline.pause(ASK_PAUSE):
            raise doubt


@measures.timed(measures.RECORD_SECONDS)
def record(charge: ChargeSnapshot, answer: Answer) -> ChargeSnapshot:
    """Write a definite answer and everything that follows from it. Return the charge as it is afterwards.

    Guarantee: written at most once. The UPDATE names the status that we read last (compare-and-set). If the status has
    changed, we lock the row, read it again, and write only if the transition is still legal. Raises Unreachable:
    recovery will ask again. Raises rows.RowLost if the charge is not in the database any more.
    """
    recorded = confirmed(lambda tx: record_within(tx, charge, answer))
    recorded.log()
    return recorded.charge


def record_within(connection: Connection, charge: ChargeSnapshot, answer: Answer) -> Recorded:
    """`record` inside the caller's transaction, so that a webhook and the change it causes are committed together.

    The caller logs the result after its commit.
    """
    to = Status(answer.outcome)
    while to in TRANSITIONS[charge.status]:
        if rows.move(connection, charge, to, answer, ask_in=outcomes.ASK_AFTER.get(to, 0.0)):
            return outcomes.follow(connection, charge._replace(status=to, action_url=answer.action_url))
        charge = rows.read_again(connection, charge)
        if answer.this_request_only:
            return Recorded(charge)  # "Not sent" and "refused" say nothing about what others sent since.
    return outcomes.ended_before(connection, charge, to)


def record_doubt(charge: ChargeSnapshot, reason: str) -> ChargeSnapshot:
    """Record that the outcome is not known. The order stays frozen; recovery asks the gateway until it knows."""
    with transaction() as connection:
        if not rows.move(connection, charge, IN_DOUBT, note=reason[:200], ask_in=outcomes.ASK_AFTER[IN_DOUBT]):
            return rows.read_again(connection, charge)
    measures.OUTCOMES.labels("charges", IN_DOUBT).inc()
    log.warning("charge_in_doubt", receipt=charge.receipt_id, reason=reason)
    return charge._replace(status=IN_DOUBT)
