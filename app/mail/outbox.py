"""The outbox: an e-mail is stored in the same transaction as the payment that it reports, and sent afterwards.

One sender at a time has the lease of an e-mail. If it dies after sending and before the UPDATE, another sender sends
the e-mail again under the same Message-ID. So no e-mail is lost, and few are sent twice.
"""

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID, uuid4

import sqlalchemy
import structlog
from sqlalchemy import ColumnElement, bindparam, column, insert, select, update
from sqlalchemy.engine import Connection
from structlog.contextvars import bound_contextvars

from app.database import from_now, table, transaction
from app.leases import back_off, longest_due
from app.mail.models import OutboxEmail

SENDING_SECONDS = 120.0
"""Seconds that sending one e-mail may take in all. `sending.sender` and `smtp.send` keep to it."""

LEASE_SECONDS = SENDING_SECONDS + 60.0
"""Length of a lease. It is longer than taking it and sending under it, so no other worker sends at the same time."""

MOST = 100
"""E-mails per pass at most, so that a worker is soon done when it is told to stop."""

LONGEST = 4 * 3600.0
"""Seconds between two tries at most."""

TRIES = 30
"""Tries, spread over two to three days, after which an e-mail is abandoned. Its row stays, with the reason."""

emails = table(OutboxEmail)
charge = sqlalchemy.table("charge", column("id"), column("request_id"))  # The model belongs to the core.
log = structlog.get_logger()

OWE = insert(emails).values(
    charge_id=bindparam("charge_id"), message_id=bindparam("message_id"), send_at=from_now(0), tries=0
)  # fmt: skip
LEASE = (
    update(emails)
    .where(
        emails.c.id
        == longest_due(emails.c.id, emails.c.send_at, emails.c.sent_at.is_(None), emails.c.gave_up_at.is_(None))
    )
    .values(send_at=from_now(LEASE_SECONDS), tries=emails.c.tries + 1)
    .returning(
        emails.c.id,
        emails.c.charge_id,
        emails.c.message_id,
        emails.c.tries,
        select(charge.c.request_id).where(charge.c.id == emails.c.charge_id).scalar_subquery(),
    )
)


class Undeliverable(ValueError):
    """The e-mail can never be sent as things are, so it is not tried again."""


class Postponed(Exception):
    """The e-mail must not be sent yet, but in some seconds. This does not count as a try."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds


class LeasedEmail(NamedTuple):
    """An e-mail under our lease. `tries` includes this one."""

    id: int
    charge_id: int
    message_id: UUID
    tries: int
    request_id: str | None = None
    """The request that claimed the charge, for the log."""


def owe(connection: Connection, charge_id: int) -> None:
    """Store the receipt e-mail of this charge in the transaction that records its success, so that none is lost."""
    connection.execute(OWE, {"charge_id": charge_id, "message_id": uuid4()})


def run(send: Callable[[LeasedEmail], None], stopped: Callable[[], bool] = lambda: False) -> int:
    """Make one pass: try to send the e-mails that are due, at most MOST. Return the number of e-mails tried.

    `send` raises if it fails; any exception but Postponed counts as a failed try, and Undeliverable as the last one.
    """
    tried = 0
    while tried < MOST and not stopped() and (email := _lease()):
        tried += 1
        with bound_contextvars(request_id=email.request_id):
            _send(email, send)
    return tried


def _lease() -> LeasedEmail | None:
    """Take a lease on the e-mail that has been due the longest. Return None if nothing is due."""
    with transaction() as tx:
        row = tx.execute(LEASE).first()
    return LeasedEmail._make(row) if row else None


def _send(email: LeasedEmail, send: Callable[[LeasedEmail], None]) -> None:
    try:
        send(email)
    except Postponed as pause:
        log.info("email_postponed", email_id=email.id, reason=str(pause))
        after = {"send_at": from_now(pause.seconds), "tries": email.tries - 1}
        _update(email, emails.c.tries == email.tries, emails.c.sent_at.is_(None), note=str(pause), **after)
    except Exception as error:
        # smtplib raises OSError; any other exception is a bug of ours. Neither may stop the other e-mails.
        note = _printable(f"{type(error).__name__}: {error}")[:200]
        gave_up = email.tries >= TRIES or isinstance(error, Undeliverable)
        log.warning("email_abandoned" if gave_up else "email_postponed", email_id=email.id, reason=type(error).__name__)
        after = {"gave_up_at": from_now(0)} if gave_up else {"send_at": from_now(back_off(email.tries, LONGEST))}
        # If the lease has run out, what another sender writes about its own try counts.
        _update(email, emails.c.tries == email.tries, emails.c.sent_at.is_(None), note=note, **after)
    else:
        log.info("email_sent", email_id=email.id)
        _update(email, sent_at=from_now(0), note=None, gave_up_at=None)


def _printable(text: str) -> str:
    """Return the text without what the database would refuse: NUL characters and halves of surrogate pairs."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _update(email: LeasedEmail, *still: ColumnElement[bool], **values: object) -> None:
    with transaction() as tx:
        tx.execute(update(emails).where(emails.c.id == email.id, *still).values(**values))
