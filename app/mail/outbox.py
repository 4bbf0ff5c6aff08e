"""The outbox: an e-mail is owed in the same transaction as the event it reports, and sent by one sender at a time.

A sender that dies between sending and noting it sends again, under the same Message-ID: never lost, rarely twice.
"""

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID, uuid4

import structlog
from sqlalchemy import bindparam, insert, update
from sqlalchemy.engine import Connection

from app.database import from_now, table, transaction
from app.leases import back_off, longest_due
from app.mail.models import OutboxEmail

LEASE = 180.0
"""Seconds that one sender has an e-mail to itself. Sending one takes less: an SMTP conversation has few steps, each
limited by `sending.TIMEOUT`."""

MOST = 100
"""E-mails per pass at most."""

LONGEST = 4 * 3600.0
"""Seconds between two tries at most."""

TRIES = 30
"""Tries, which take three days, after which an e-mail is given up and stays visible."""

emails = table(OutboxEmail)
log = structlog.get_logger()

OWE = insert(emails).values(
    charge_id=bindparam("charge"), message_id=bindparam("message"), send_at=from_now(0), tries=0
)  # fmt: skip
TAKE = (
    update(emails)
    .where(
        emails.c.id
        == longest_due(emails.c.id, emails.c.send_at, emails.c.sent_at.is_(None), emails.c.gave_up_at.is_(None))
    )
    .values(send_at=from_now(LEASE), tries=emails.c.tries + 1)
    .returning(emails.c.id, emails.c.charge_id, emails.c.message_id, emails.c.tries)
)


class LeasedEmail(NamedTuple):
    """An e-mail under our lease."""

    id: int
    charge_id: int
    message_id: UUID
    tries: int


def owe(connection: Connection, charge_id: int) -> None:
    """Owe the receipt e-mail of this charge, in the transaction of its success, so that it can't be lost."""
    connection.execute(OWE, {"charge": charge_id, "message": uuid4()})


def run(send: Callable[[LeasedEmail], None], stopped: Callable[[], bool] = lambda: False) -> int:
    """Send what is owed, at most MOST e-mails. Return the number of e-mails tried. `send` raises on failure."""
    tried = 0
    while tried < MOST and not stopped() and (email := _take()):
        tried += 1
        _send(email, send)
    return tried


def _take() -> LeasedEmail | None:
    with transaction() as tx:
        row = tx.execute(TAKE).first()
    return LeasedEmail._make(row) if row else None


def _send(email: LeasedEmail, send: Callable[[LeasedEmail], None]) -> None:
    try:
        send(email)
    except Exception as error:
        # smtplib's errors are OSErrors; anything else is a fault of ours. Neither may stop the other e-mails.
        note = f"{type(error).__name__}: {error}"[:200]
        gave_up = email.tries >= TRIES
        log.warning("email_abandoned" if gave_up else "email_postponed", email_id=email.id, reason=type(error).__name__)
        if gave_up:
            _note(email, gave_up_at=from_now(0), note=note)
        else:
            _note(email, send_at=from_now(back_off(email.tries, LONGEST)), note=note)
    else:
        log.info("email_sent", email_id=email.id)
        _note(email, sent_at=from_now(0), note=None)


def _note(email: LeasedEmail, **values: object) -> None:
    with transaction() as tx:
        tx.execute(update(emails).where(emails.c.id == email.id).values(**values))
