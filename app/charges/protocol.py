"""The heart: claim, ask, record. One form, one token, one charge.

    claim    one transaction: the token becomes a charge's unique key, the order is frozen, its goods reserved
    ask      no transaction open, no connection held: the gateway is asked under the same key
    record   one transaction: the outcome is written, but only onto the state that we saw

Whoever comes with a token that is claimed already (a twin, a late retry) or for an order that is being paid
(a second tab) is led to the receipt of the charge that holds it, at once, and never gets as far as the gateway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.engine import Connection

from app.charges import refunds, rows, same_order
from app.charges.models import ARRIVALS_COUNTED
from app.charges.rows import Seen
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
from app.database import Unreachable, reading, transaction
from app.gateways.base import Answer, Card, Deadline, Gateway, NotSent, Outcome, Payment, Unknown
from app.ledger import book
from app.mail import outbox
from app.orders import basket

CLAIM_TRIES = 5
"""A claim is tried again only where the rival that beat it has meanwhile ended without money."""

MARGIN = 5.0
"""Seconds beyond the gateway's deadline before recovery takes a charge for abandoned."""

PAUSE = 0.2
"""Seconds between two tries under one key within one request."""

NOT_SENT = Answer(Outcome.CANCELED, reason="not_sent")
"""Where the first try could not even connect. It speaks of that try alone: recovery may have asked since."""

ASK_AFTER = {IN_DOUBT: 1.0, REQUIRES_ACTION: 20.0}
"""Seconds until recovery first asks what became of a charge that is left pending."""

log = structlog.get_logger()


class Busy(Exception):
    """Rivals came and went faster than we could claim. Nothing was charged; the same form may be sent again."""


class ClaimUnknown(Exception):
    """The storage went away: the claim may or may not be there. The gateway was not asked for it, and won't be."""


@dataclass(frozen=True)
class Purchase:
    """One press of the button. `receipt` is made anew for each, so whose receipt the charge bears owns the claim."""

    token: Token
    receipt: UUID
    email: str
    name: str
    card: Card | None
    last4: str | None
    order_again: bool
    link: str
    request: Mapping[str, Any] | None = None
    """The gateway's own request, where it must be kept so that it can be repeated exactly."""


def pay(purchase: Purchase, gateway: Gateway, seconds: float) -> Seen:
    """The whole story: claim, ask, record. Answers the charge whose receipt to lead the shopper to.

    Once the claim stands, that receipt is the answer whatever happens: it tells the truth, now or later.
    Before it stands, nothing was charged: basket.OrderChanged, stock.SoldOut, same_order.OrderedBefore, Busy
    and ClaimUnknown are raised.
    """
    charge = claim(purchase, gateway, seconds)
    if charge.receipt != purchase.receipt or charge.status is not PROCESSING:
        return charge  # A rival's; or ours, but by the time the claim was probed, recovery had looked after it.
    try:
        return _ask_and_record(charge, purchase, gateway, Deadline(seconds))
    except Unreachable:
        log.error("charge_not_recorded", receipt=str(charge.receipt))
        return charge


def _ask_and_record(charge: Seen, purchase: Purchase, gateway: Gateway, deadline: Deadline) -> Seen:
    try:
        answer = ask(gateway, charge.payment, purchase.card, deadline)
    except Unknown as doubt:
        return record_doubt(charge, doubt.reason)
    return record(charge, answer)


def already(token: Token) -> Seen | None:
    """The charge that holds this token or its order. A short cut for those who come late: the claim is the judge."""
    with reading() as tx:
        charge = rows.find(tx, token.key, token.order)
    if charge is not None:
        count_arrival(token, charge)
    return charge


def count_arrival(token: Token, charge: Seen) -> None:
    """So that the receipt can say how often its form arrived, up to a small number. Not worth failing for."""
    same_form = token.key == charge.token
    if (charge.arrivals if same_form else charge.rivals) >= ARRIVALS_COUNTED:
        return
    try:
        with transaction() as tx:
            rows.count_arrival(tx, charge.id, same_form=same_form)
    except Unreachable:
        log.info("arrival_not_counted", receipt=str(charge.receipt))


def claim(purchase: Purchase, gateway: Gateway, seconds: float) -> Seen:
    """The charge that holds the token or its order afterwards: ours if it bears our receipt, else a rival's.

    A commit whose answer is lost is probed by claiming again with the same receipt: only an INSERT that
    conflicts, or doesn't, makes certain who owns the row; a SELECT that finds nothing proves nothing.
    """
    try:
        return _claim(purchase, gateway, seconds)
    except Unreachable:
        try:
            return _claim(purchase, gateway, seconds)
        except Unreachable:
            raise ClaimUnknown from None


def _claim(purchase: Purchase, gateway: Gateway, seconds: float) -> Seen:
    for _ in range(CLAIM_TRIES):
        with transaction() as tx:
            charge = _claim_or_find_rival(tx, purchase, gateway, seconds)
        if charge is None:
            continue
        if charge.receipt != purchase.receipt:
            count_arrival(purchase.token, charge)
        return charge
    raise Busy


def _claim_or_find_rival(connection: Connection, purchase: Purchase, gateway: Gateway, seconds: float) -> Seen | None:
    """One transaction. The INSERT decides, before anything else is looked at; all that follows, it protects."""
    token = purchase.token
    charge = rows.insert(
        connection, unattended=seconds + MARGIN,
        token=token.key, receipt=purchase.receipt, order_id=token.order, status=PROCESSING,
        amount=token.amount, currency=token.currency,
        email=purchase.email, name=purchase.name, last4=purchase.last4, link=purchase.link,
        gateway=gateway.name, account=gateway.account, request=purchase.request,
    )  # fmt: skip
    if charge is None:
        return rows.find(connection, token.key, token.order)
    goods = basket.place(connection, token.order, token.version, token.amount)
    mark = same_order.fingerprint(goods, token.currency, purchase.email)
    same_order.guard(connection, charge.id, mark, again=purchase.order_again)
    return charge


def ask(gateway: Gateway, payment: Payment, card: Card | None, deadline: Deadline) -> Answer:
    """A definite answer within the deadline, asking again under the same key where one was lost; or raises Unknown.

    No answer never becomes "declined". A connection that could not be opened proves that nothing was taken only
    if it was the first try: an earlier one may have arrived.
    """
    sent = False
    while True:
        try:
            return gateway.charge(payment, card, deadline.left())
        except NotSent:
            if not sent:
                return NOT_SENT
            doubt = Unknown("the gateway could not be reached again")
        except Unknown as unknown:
            sent, doubt = True, unknown
        if not doubt.again or not deadline.pause(PAUSE):
            raise doubt


def record(charge: Seen, answer: Answer) -> Seen:
    """Write a definite answer and what follows from it, once. Answers the charge as it then is.

    A commit whose answer is lost is simply tried again: the compare-and-set finds what was written.
    """
    try:
        return _record(charge, answer)
    except Unreachable:
        return _record(charge, answer)


def _record(charge: Seen, answer: Answer) -> Seen:
    with transaction() as tx:
        after = record_within(tx, charge, answer)
    log.info("charge_" + after.status, receipt=str(charge.receipt), amount=charge.amount, currency=charge.currency)
    return after


def record_within(connection: Connection, charge: Seen, answer: Answer) -> Seen:
    """The same in the caller's transaction, so that what brought the answer is stored with it or not at all."""
    to = Status(answer.outcome)
    while to in TRANSITIONS[charge.status]:
        if rows.move(connection, charge, to, answer, ask_in=ASK_AFTER.get(to, 0.0)):
            _follow(connection, charge, to)
            return charge._replace(status=to, action_url=answer.action_url)
        charge = rows.get(connection, charge.id)
        if answer is NOT_SENT:
            return charge  # Somebody else asked meanwhile, and may have been heard.
    return _recorded_otherwise(connection, charge, to)


def _follow(connection: Connection, charge: Seen, to: Status) -> None:
    """What a new state brings with it, in the same transaction."""
    if to is SUCCEEDED:
        book.post(connection, charge.id, charge.amount, charge.currency)
        outbox.owe(connection, charge.id)
    elif to in WITHOUT_MONEY:
        basket.reopen(connection, charge.order_id)


def _recorded_otherwise(connection: Connection, charge: Seen, to: Status) -> Seen:
    """Somebody else recorded how it ended. Only money that turns up after "no money" is news."""
    if to is SUCCEEDED and charge.status in WITHOUT_MONEY:
        refunds.claim_stray(connection, charge)
        log.error("charge_stray", receipt=str(charge.receipt), amount=charge.amount, currency=charge.currency)
    return charge


def record_doubt(charge: Seen, reason: str) -> Seen:
    """Nobody knows yet. The order stays frozen, the reason is kept, and recovery goes to find out."""
    with transaction() as connection:
        if rows.move(connection, charge, IN_DOUBT, note=reason[:200], ask_in=ASK_AFTER[IN_DOUBT]):
            log.warning("charge_in_doubt", receipt=str(charge.receipt), reason=reason)
            return charge._replace(status=IN_DOUBT)
        return rows.get(connection, charge.id)
