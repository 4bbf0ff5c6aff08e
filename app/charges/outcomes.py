"""What follows from a charge's new state, in the transaction that writes the state."""

from typing import NamedTuple

import structlog
from sqlalchemy.engine import Connection

from app import measures
from app.charges import strays
from app.charges.rows import ChargeSnapshot
from app.charges.states import IN_DOUBT, REQUIRES_ACTION, SUCCEEDED, WITHOUT_MONEY, Status
from app.ledger import book
from app.mail import outbox
from app.orders import basket

ASK_AFTER = {IN_DOUBT: 1.0, REQUIRES_ACTION: 20.0}
"""Seconds until recovery first asks about a charge that is left in this state."""

log = structlog.get_logger()


class Recorded(NamedTuple):
    """The charge after recording, and the log event if this process wrote something. Log it after the commit."""

    charge: ChargeSnapshot
    event: str | None = None

    def log(self) -> None:
        """Log what this process wrote; nothing if another process had written it."""
        if self.event:
            charge = self.charge
            measures.OUTCOMES.labels("charges", self.event.removeprefix("charge_")).inc()
            write = log.error if self.event == "charge_stray" else log.info
            write(self.event, receipt=charge.receipt_id, amount=charge.amount, currency=charge.currency)


def follow(connection: Connection, charge: ChargeSnapshot) -> Recorded:
    """Post the money and owe the receipt e-mail, or give the order and its stock back."""
    if charge.status is SUCCEEDED:
        book.post(connection, charge.id, charge.amount, charge.currency, kind=book.Kind.CHARGE)
        outbox.owe(connection, charge.id)
    elif charge.status in WITHOUT_MONEY:
        basket.reopen(connection, charge.id, charge.order_id)
    return Recorded(charge, f"charge_{charge.status}")


def ended_before(connection: Connection, charge: ChargeSnapshot, to: Status) -> Recorded:
    """The answer is not new, or it comes too late. Only money for a charge that ended without it matters: a stray."""
    if to is SUCCEEDED and charge.status in WITHOUT_MONEY and strays.claim(connection, charge):
        return Recorded(charge, "charge_stray")
    return Recorded(charge)
