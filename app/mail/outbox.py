"""The outbox: a letter is owed in the same transaction as what it tells of, and sent by one sender at a time.

A sender that dies between sending and noting it sends again, under the same Message-ID: never lost, rarely twice.
"""

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID, uuid4

import structlog
from sqlalchemy import bindparam, insert, update
from sqlalchemy.engine import Connection

from app.database import back_off, from_now, longest_due, table, transaction
from app.mail.models import Letter

LEASE = 60.0
"""Seconds that one sender has a letter for itself: longer than any sending may take."""

letters = table(Letter)
log = structlog.get_logger()

OWE = insert(letters).values(
    charge_id=bindparam("charge"), message=bindparam("message"), send_at=from_now(0), tries=0
)  # fmt: skip
TAKE = (
    update(letters)
    .where(letters.c.id == longest_due(letters.c.id, letters.c.send_at, letters.c.sent_at.is_(None)))
    .values(send_at=from_now(LEASE), tries=letters.c.tries + 1)
    .returning(letters.c.id, letters.c.charge_id, letters.c.message, letters.c.tries)
)


class Owed(NamedTuple):
    """A letter under our lease."""

    id: int
    charge: int
    message: UUID
    tries: int


def owe(connection: Connection, charge: int) -> None:
    """The receipt of this charge is to be sent: said in the transaction of its success, so it can't be lost."""
    connection.execute(OWE, {"charge": charge, "message": uuid4()})


def run(send: Callable[[Owed], None], stopped: Callable[[], bool] = lambda: False) -> int:
    """Send what is owed, one by one; answers how many letters were tried. `send` raises OSError where it can't."""
    tried = 0
    while not stopped() and (owed := _take()):
        tried += 1
        _send(owed, send)
    return tried


def _take() -> Owed | None:
    with transaction() as tx:
        row = tx.execute(TAKE).first()
    return Owed._make(row) if row else None


def _send(owed: Owed, send: Callable[[Owed], None]) -> None:
    try:
        send(owed)
    except OSError as error:  # smtplib's errors are OSErrors too
        log.warning("letter_waits", letter=owed.id, reason=type(error).__name__)
        _note(owed, send_at=from_now(back_off(owed.tries)), note=f"{type(error).__name__}: {error}"[:200])
    else:
        log.info("letter_sent", letter=owed.id)
        _note(owed, sent_at=from_now(0), note=None)


def _note(owed: Owed, **values: object) -> None:
    with transaction() as tx:
        tx.execute(update(letters).where(letters.c.id == owed.id).values(**values))
